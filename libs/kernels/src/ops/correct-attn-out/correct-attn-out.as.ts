// correctAttnOut on the shared heap.
//
// Grid: one thread walks tokens, then heads four at a time, whose LSE arithmetic shares the lanes of one vector.
// Traffic: reads the N LSEs and the D columns of a row once, writes the D columns once.
// Numerics: f32; the LSE sum runs in rank order. Non-finite numbers: in the original's mode a factor of 0 writes 0
// without reading the row; in the mode that propagates only an empty rank's does, and one NaN or +inf LSE makes its row
// NaN.

import { BF16, F16, load1, load4, store1, store4, store8 } from "../../wasm/dtype.as";
import { allFinite } from "../../wasm/halves.as";
import {
  isEmpty, largestLse, poison, STATE_BYTES, STATE_LSE, STATE_OUT, statePower, stateRow, stateWeights, totalLse,
} from "../../wasm/lse.as";
import { scaleHalves_bf16, scaleHalves_f16 } from "./scale-halves.as";

/** `states` describes the N ranks' LSEs, then the source (`out` and this rank's LSE), then the result. */
// @ts-ignore: decorator
@inline
function correct<T>(
  states: usize,
  count: i32,
  tokens: i32,
  heads: i32,
  dim: i32,
  base2: bool,
  propagate: bool,
): void {
  const source = states + count * STATE_BYTES;
  const target = source + STATE_BYTES;
  const lseAt: usize = load<u32>(target, STATE_LSE);
  const lseTokenStride = load<u32>(target, STATE_LSE + 4);
  const lseHeadStride = load<u32>(target, STATE_LSE + 8);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head += 4) {
      const lanes = min(4, heads - head);
      const max = largestLse(states, count, token, head, lanes);
      let sum = f32x4.splat(0);
      for (let index = 0; index < count; index++) {
        sum = f32x4.add(sum, statePower(states + index * STATE_BYTES, max, token, head, lanes, base2));
      }
      let factors = stateWeights(statePower(source, max, token, head, lanes, base2), sum);
      let total = totalLse(max, sum, base2);
      // A factor of -0 marks a row that is not read.
      let isNone = f32x4.eq(factors, f32x4.splat(0));
      if (propagate) {
        const poisoned = poison(states, count, token, head, lanes);
        isNone = isEmpty(source, token, head, lanes);
        factors = f32x4.add(factors, poisoned);
        total = f32x4.add(total, poisoned);
        isNone = v128.and(isNone, f32x4.eq(poisoned, poisoned));
      }
      factors = v128.bitselect(f32x4.splat(-0.0), factors, isNone);
      const lseRow = lseAt + token * lseTokenStride + head * lseHeadStride;
      for (let lane = 0; lane < lanes; lane++) {
        store<f32>(lseRow + lane * lseHeadStride, lane4(total, lane));
        const row = stateRow(source, token, head + lane);
        const to = stateRow(target, token, head + lane);
        const factor = lane4(factors, lane);
        scaleRow<T>(row, load<u32>(source, STATE_OUT + 12), to, load<u32>(target, STATE_OUT + 12), dim, factor);
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function lane4(vector: v128, lane: i32): f32 {
  if (lane == 0) return f32x4.extract_lane(vector, 0);
  if (lane == 1) return f32x4.extract_lane(vector, 1);
  if (lane == 2) return f32x4.extract_lane(vector, 2);
  return f32x4.extract_lane(vector, 3);
}

/** target = source * factor; a factor of -0 gives 0 and one of NaN gives NaN, whatever the source holds. */
function scaleRow<T>(source: usize, sourceStride: u32, target: usize, targetStride: u32, dim: i32, factor: f32): void {
  const width: u32 = sizeof<T>();
  let column = 0;
  if (factor != factor) {
    for (; column < dim; column++) store1<T>(target + column * targetStride, NaN);
    return;
  }
  const isNone = reinterpret<u32>(factor) == 0x80000000;
  if (sourceStride == width && targetStride == width) {
    if (isNone) {
      memory.fill(target, 0, dim * width);
      return;
    }
    if (sizeof<T>() == 2 && allFinite<T>(source, dim)) {
      if (isSigned<T>()) scaleHalves_bf16(source, target, dim, factor);
      else scaleHalves_f16(source, target, dim, factor);
      return;
    }
    const splat = f32x4.splat(factor);
    for (; column + 16 <= dim; column += 16) {
      const a = load4<T>(source);
      const b = load4<T>(source + 4 * sizeof<T>());
      const c = load4<T>(source + 8 * sizeof<T>());
      const d = load4<T>(source + 12 * sizeof<T>());
      store8<T>(target, f32x4.mul(a, splat), f32x4.mul(b, splat));
      store8<T>(target + 8 * sizeof<T>(), f32x4.mul(c, splat), f32x4.mul(d, splat));
      source += 16 * sizeof<T>();
      target += 16 * sizeof<T>();
    }
    for (; column + 4 <= dim; column += 4) {
      store4<T>(target, f32x4.mul(load4<T>(source), splat));
      source += 4 * sizeof<T>();
      target += 4 * sizeof<T>();
    }
  }
  for (; column < dim; column++) {
    store1<T>(target, isNone ? 0 : load1<T>(source) * factor);
    source += sourceStride;
    target += targetStride;
  }
}

export function correctAttnOut_f32(s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, propagate: bool): void {
  correct<f32>(s, n, t, h, d, base2, propagate);
}

export function correctAttnOut_f16(s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, propagate: bool): void {
  correct<F16>(s, n, t, h, d, base2, propagate);
}

export function correctAttnOut_bf16(s: usize, n: i32, t: i32, h: i32, d: i32, base2: bool, propagate: bool): void {
  correct<BF16>(s, n, t, h, d, base2, propagate);
}
