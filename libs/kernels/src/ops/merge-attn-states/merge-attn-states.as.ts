// mergeAttnStates on the shared heap.
//
// Grid: one thread walks tokens, then heads four at a time; a row is merged 16 columns at a time in registers.
// Traffic: reads every state's LSE and columns once, writes the D columns once.
// Numerics: f32, folded in the order of the states. Non-finite numbers: in the original's mode a state of weight 0 is
// not read; in the mode that propagates only an empty state is not, and one NaN or +inf LSE makes its row NaN.

import { BF16, F16, load1, load4, store1, store8 } from "../../wasm/dtype.as";
import { allFinite } from "../../wasm/halves.as";
import {
  isEmpty, largestLse, poison, STATE_BYTES, STATE_LSE, STATE_OUT, statePower, stateRow, stateWeights, totalLse,
} from "../../wasm/lse.as";
import { mergeHalves_bf16, mergeHalves_f16, mergeTwoHalves_bf16, mergeTwoHalves_f16 } from "./merge-halves.as";

/**
 * `states` describes the N states, then the result (LSE pointer 0: not wanted). `weights` has room for N + 1 vectors
 * and N (row pointer, column stride, weight) triples behind them.
 */
// @ts-ignore: decorator
@inline
function merge<S, T>(
  states: usize,
  count: i32,
  tokens: i32,
  heads: i32,
  dim: i32,
  base2: bool,
  weights: usize,
  propagate: bool,
): void {
  const target = states + count * STATE_BYTES;
  const lseAt: usize = load<u32>(target, STATE_LSE);
  const lseHeadStride = load<u32>(target, STATE_LSE + 8);
  const rows = weights + (count + 1) * 16;
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head += 4) {
      const lanes = min(4, heads - head);
      const max = largestLse(states, count, token, head, lanes);
      let sum = f32x4.splat(0);
      for (let index = 0; index < count; index++) {
        const power = statePower(states + index * STATE_BYTES, max, token, head, lanes, base2);
        v128.store(weights + index * 16, power);
        sum = f32x4.add(sum, power);
      }
      // A weight of -0 marks a state that is left out.
      const none = f32x4.splat(-0.0);
      for (let index = 0; index < count; index++) {
        const weight = stateWeights(v128.load(weights + index * 16), sum);
        const isNone = propagate
          ? isEmpty(states + index * STATE_BYTES, token, head, lanes)
          : f32x4.eq(weight, f32x4.splat(0));
        v128.store(weights + index * 16, v128.bitselect(none, weight, isNone));
      }
      const poisoned = propagate ? poison(states, count, token, head, lanes) : f32x4.splat(0);
      if (propagate) v128.store(weights + count * 16, poisoned);
      if (lseAt != 0) {
        const total = f32x4.add(totalLse(max, sum, base2), poisoned);
        const at = lseAt + token * load<u32>(target, STATE_LSE + 4) + head * lseHeadStride;
        v128.store32_lane(at, total, 0);
        if (lanes > 1) v128.store32_lane(at + lseHeadStride, total, 1);
        if (lanes > 2) v128.store32_lane(at + 2 * lseHeadStride, total, 2);
        if (lanes > 3) v128.store32_lane(at + 3 * lseHeadStride, total, 3);
      }
      for (let lane = 0; lane < lanes; lane++) {
        if (propagate && load<u32>(weights + count * 16 + lane * 4) != 0) {
          poisonRow<T>(stateRow(target, token, head + lane), load<u32>(target, STATE_OUT + 12), dim);
          continue;
        }
        let used = 0;
        let contiguous = load<u32>(target, STATE_OUT + 12) == sizeof<T>();
        for (let index = 0; index < count; index++) {
          const weight = load<f32>(weights + index * 16 + lane * 4);
          if (reinterpret<u32>(weight) == 0x80000000) continue;
          const state = states + index * STATE_BYTES;
          const entry = rows + used * 12;
          store<u32>(entry, <u32>stateRow(state, token, head + lane));
          store<u32>(entry, load<u32>(state, STATE_OUT + 12), 4);
          store<f32>(entry, weight, 8);
          contiguous = contiguous && load<u32>(state, STATE_OUT + 12) == sizeof<S>();
          used++;
        }
        const to = stateRow(target, token, head + lane);
        mergeRow<S, T>(rows, used, to, load<u32>(target, STATE_OUT + 12), dim, contiguous);
      }
    }
  }
}

function poisonRow<T>(target: usize, stride: u32, dim: i32): void {
  for (let column = 0; column < dim; column++) store1<T>(target + column * stride, NaN);
}

/** target = sum over `count` (pointer, stride, weight) triples. */
function mergeRow<S, T>(rows: usize, count: i32, target: usize, stride: u32, dim: i32, contiguous: bool): void {
  let column = 0;
  if (contiguous) {
    if (sizeof<T>() == 2 && sizeof<S>() == 2 && isSigned<S>() == isSigned<T>() && rowsAreFinite<S>(rows, count, dim)) {
      if (isSigned<T>()) {
        if (count == 2) mergeTwoHalves_bf16(rows, target, dim);
        else mergeHalves_bf16(rows, count, target, dim);
      } else if (count == 2) mergeTwoHalves_f16(rows, target, dim);
      else mergeHalves_f16(rows, count, target, dim);
      return;
    }
    for (; column + 16 <= dim; column += 16) {
      let a = f32x4.splat(0);
      let b = f32x4.splat(0);
      let c = f32x4.splat(0);
      let d = f32x4.splat(0);
      for (let index = 0; index < count; index++) {
        const entry = rows + index * 12;
        const at: usize = load<u32>(entry) + column * sizeof<S>();
        const weight = v128.load32_splat(entry, 8);
        a = f32x4.add(a, f32x4.mul(weight, load4<S>(at)));
        b = f32x4.add(b, f32x4.mul(weight, load4<S>(at + 4 * sizeof<S>())));
        c = f32x4.add(c, f32x4.mul(weight, load4<S>(at + 8 * sizeof<S>())));
        d = f32x4.add(d, f32x4.mul(weight, load4<S>(at + 12 * sizeof<S>())));
      }
      const to = target + column * sizeof<T>();
      store8<T>(to, a, b);
      store8<T>(to + 8 * sizeof<T>(), c, d);
    }
  }
  for (; column < dim; column++) {
    let sum: f32 = 0;
    for (let index = 0; index < count; index++) {
      const entry = rows + index * 12;
      sum += load<f32>(entry, 8) * load1<S>(<usize>load<u32>(entry) + column * load<u32>(entry, 4));
    }
    store1<T>(target + column * stride, sum);
  }
}

// @ts-ignore: decorator
@inline
function rowsAreFinite<T>(rows: usize, count: i32, dim: i32): bool {
  // Asked of the columns themselves: there may be no row that could answer.
  if ((dim & 7) != 0) return false;
  for (let index = 0; index < count; index++) {
    if (!allFinite<T>(load<u32>(rows + index * 12), dim)) return false;
  }
  return true;
}

export function mergeAttnStates_f32_f32(
  s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, w: usize, p: bool,
): void {
  merge<f32, f32>(s, n, t, h, d, base2, w, p);
}

export function mergeAttnStates_f32_f16(
  s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, w: usize, p: bool,
): void {
  merge<f32, F16>(s, n, t, h, d, base2, w, p);
}

export function mergeAttnStates_f32_bf16(
  s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, w: usize, p: bool,
): void {
  merge<f32, BF16>(s, n, t, h, d, base2, w, p);
}

export function mergeAttnStates_f16_f32(
  s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, w: usize, p: bool,
): void {
  merge<F16, f32>(s, n, t, h, d, base2, w, p);
}

export function mergeAttnStates_f16_f16(
  s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, w: usize, p: bool,
): void {
  merge<F16, F16>(s, n, t, h, d, base2, w, p);
}

export function mergeAttnStates_f16_bf16(
  s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, w: usize, p: bool,
): void {
  merge<F16, BF16>(s, n, t, h, d, base2, w, p);
}

export function mergeAttnStates_bf16_f32(
  s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, w: usize, p: bool,
): void {
  merge<BF16, f32>(s, n, t, h, d, base2, w, p);
}

export function mergeAttnStates_bf16_f16(
  s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, w: usize, p: bool,
): void {
  merge<BF16, F16>(s, n, t, h, d, base2, w, p);
}

export function mergeAttnStates_bf16_bf16(
  s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, w: usize, p: bool,
): void {
  merge<BF16, BF16>(s, n, t, h, d, base2, w, p);
}
