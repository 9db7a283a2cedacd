// One step of the online softmax: a tile's scores, in units of ln 2, become weights relative to the new maximum. A
// visible score that is not finite makes the row's sum NaN, and with it its LSE and output.

import { exp2Negative4, tanh4 } from "../../wasm/math.as";

/** 0 when all scores [first, stop) are finite, else NaN. */
// @ts-ignore: decorator
@inline
export function poison(row: usize, first: i32, stop: i32): f32 {
  let key = first;
  let scalar: f32 = 0;
  for (; key < stop && (key & 3) != 0; key++) scalar += load<f32>(row + key * 4) * 0;
  let lanes = f32x4.splat(0);
  for (; key + 4 <= stop; key += 4) lanes = f32x4.add(lanes, f32x4.mul(v128.load(row + key * 4), f32x4.splat(0)));
  for (; key < stop; key++) scalar += load<f32>(row + key * 4) * 0;
  lanes = f32x4.add(lanes, v128.shuffle<f32>(lanes, lanes, 2, 3, 0, 1));
  return scalar + f32x4.extract_lane(lanes, 0) + f32x4.extract_lane(lanes, 1);
}

/** Bounds `keys` (a multiple of 4) scores to (-softcap, softcap); 0 for no softcap. */
// @ts-ignore: decorator
@inline
export function capScores(row: usize, keys: i32, softcap: f32): void {
  if (softcap == 0) return;
  const cap = f32x4.splat(softcap);
  for (let key = 0; key < keys; key += 4) {
    const score = v128.load(row + key * 4);
    v128.store(row + key * 4, f32x4.mul(cap, tanh4(f32x4.div(score, cap))));
  }
}

/**
 * `row` holds `keys` (a multiple of 4) scores, of which [first, stop) count. `state` is the row's maximum and sum so
 * far, then the factor by which what was summed before must be rescaled, then first and stop (i32).
 */
export function softmaxRow(row: usize, keys: i32, state: usize, softcap: f32): void {
  const first = load<i32>(state, 12);
  const stop = load<i32>(state, 16);
  if (first >= stop) {
    store<f32>(state, 1, 8);
    return;
  }
  capScores(row, keys, softcap);
  const poisoned = poison(row, first, stop);
  for (let key = 0; key < first; key++) store<f32>(row + key * 4, -Infinity);
  for (let key = stop; key < keys; key++) store<f32>(row + key * 4, -Infinity);

  const before = load<f32>(state);
  let maxima = f32x4.splat(before);
  for (let key = 0; key < keys; key += 4) maxima = f32x4.pmax(maxima, v128.load(row + key * 4));
  maxima = f32x4.pmax(maxima, v128.shuffle<f32>(maxima, maxima, 2, 3, 0, 1));
  maxima = f32x4.pmax(maxima, v128.shuffle<f32>(maxima, maxima, 1, 0, 3, 2));
  const maximum = f32x4.extract_lane(maxima, 0);
  // Where every score is -inf, subtracting 0 keeps them so.
  const reference = f32x4.splat(maximum == -Infinity ? 0 : maximum);

  let sums = f32x4.splat(0);
  for (let key = 0; key < keys; key += 4) {
    const weight = exp2Negative4(f32x4.sub(v128.load(row + key * 4), reference));
    v128.store(row + key * 4, weight);
    sums = f32x4.add(sums, weight);
  }
  // Lanes 0 + 2 and 1 + 3 first: the same bits in whichever lane a row's first key is.
  sums = f32x4.add(sums, v128.shuffle<f32>(sums, sums, 2, 3, 0, 1));
  sums = f32x4.add(sums, v128.shuffle<f32>(sums, sums, 1, 0, 3, 2));
  const rescale = f32x4.extract_lane(exp2Negative4(f32x4.sub(f32x4.splat(before), reference)), 0);
  store<f32>(state, maximum);
  store<f32>(state, load<f32>(state, 4) * rescale + f32x4.extract_lane(sums, 0) + poisoned, 4);
  store<f32>(state, rescale, 8);
}
