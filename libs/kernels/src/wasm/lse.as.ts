// LSEs of several partial states of the same rows, four rows (heads of one token) at a time.
//
// A state is some u32 in a table, in the order of the constants below (strides in bytes).

import { exp2x4, expNegative4, log2x4, log4 } from "./math.as";

export const STATE_OUT: usize = 0; // pointer, token, head and column strides
export const STATE_LSE: usize = 16; // pointer, token and head strides; a word is unused
export const STATE_BYTES: i32 = 32;

/** Pointer to the output row of a state. */
// @ts-ignore: decorator
@inline
export function stateRow(state: usize, token: i32, head: i32): usize {
  return load<u32>(state, STATE_OUT) + token * load<u32>(state, STATE_OUT + 4) + head * load<u32>(state, STATE_OUT + 8);
}

/** Four LSEs of a state from `head` on; beyond `lanes` repeats of the last one. */
// @ts-ignore: decorator
@inline
function rawLses(state: usize, token: i32, head: i32, lanes: i32): v128 {
  const stride = load<u32>(state, STATE_LSE + 8);
  const at: usize = load<u32>(state, STATE_LSE) + token * load<u32>(state, STATE_LSE + 4) + head * stride;
  if (lanes == 4 && stride == 4) return v128.load(at);
  const last: u32 = lanes - 1;
  let raw = v128.load32_splat(at);
  raw = v128.load32_lane(at + min(<u32>1, last) * stride, raw, 1);
  raw = v128.load32_lane(at + min(<u32>2, last) * stride, raw, 2);
  return v128.load32_lane(at + min(<u32>3, last) * stride, raw, 3);
}

/** The same, with NaN and +inf as -inf. */
// @ts-ignore: decorator
@inline
export function stateLses(state: usize, token: i32, head: i32, lanes: i32): v128 {
  const raw = rawLses(state, token, head, lanes);
  return v128.bitselect(raw, f32x4.splat(-Infinity), f32x4.lt(raw, f32x4.splat(Infinity)));
}

/** 0 in the lanes where every LSE of `count` states is finite or -inf, NaN where one is NaN or +inf. */
// @ts-ignore: decorator
@inline
export function poison(states: usize, count: i32, token: i32, head: i32, lanes: i32): v128 {
  let sound = i32x4.splat(-1);
  for (let index = 0; index < count; index++) {
    const raw = rawLses(states + index * STATE_BYTES, token, head, lanes);
    sound = v128.and(sound, f32x4.lt(raw, f32x4.splat(Infinity)));
  }
  return v128.andnot(f32x4.splat(NaN), sound);
}

/** All bits set in the lanes where a state is empty: its LSE is -inf. */
// @ts-ignore: decorator
@inline
export function isEmpty(state: usize, token: i32, head: i32, lanes: i32): v128 {
  return f32x4.eq(rawLses(state, token, head, lanes), f32x4.splat(-Infinity));
}

/** The largest LSE of `count` states; 0 where all are empty. */
// @ts-ignore: decorator
@inline
export function largestLse(states: usize, count: i32, token: i32, head: i32, lanes: i32): v128 {
  let max = f32x4.splat(-Infinity);
  for (let index = 0; index < count; index++) {
    max = f32x4.pmax(max, stateLses(states + index * STATE_BYTES, token, head, lanes));
  }
  return v128.andnot(max, f32x4.eq(max, f32x4.splat(-Infinity)));
}

/** base^(lse - max) of one state, `max` being at least its LSE; 0 where it is empty. */
// @ts-ignore: decorator
@inline
export function statePower(state: usize, max: v128, token: i32, head: i32, lanes: i32, base2: bool): v128 {
  const exponent = f32x4.sub(stateLses(state, token, head, lanes), max);
  return base2 ? exp2x4(exponent) : expNegative4(exponent);
}

/** The LSE of states whose largest LSE and sum of powers are given; -inf where all are empty. */
// @ts-ignore: decorator
@inline
export function totalLse(max: v128, sum: v128, base2: bool): v128 {
  return f32x4.add(max, base2 ? log2x4(sum) : log4(sum));
}

/** power / sum, at most 1; 0 where all states are empty. */
// @ts-ignore: decorator
@inline
export function stateWeights(power: v128, sum: v128): v128 {
  return v128.andnot(f32x4.div(power, sum), f32x4.eq(sum, f32x4.splat(0)));
}
