// Adds a tile's weighted values: O[row] = O[row] * rescale + sum over the keys a row sees of weight * value.
//
// Four rows by eight columns at a time: eight vectors of sums in registers, six loads for sixteen operations. The
// weights of four rows are spread out first, each as a vector of its own, since every eight columns want them so.

import { SCORE_STRIDE } from "./scores.as";

/**
 * Bytes from one row of spread-out weights to the next: at most 128 keys, and 16 more so that rows spread over the
 * cache.
 */
export const SPREAD_STRIDE: usize = 2064;

// @ts-ignore: decorator
@inline
function multiplyAdd(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

/**
 * `valueRows` points to `keys` addresses of value rows, each to be moved by `offset`; `state` as in softmaxRow; `full`
 * when every row sees all keys; `spread` is scratch for four rows of spread-out weights.
 */
export function weightedSum(
  weights: usize,
  rows: i32,
  valueRows: usize,
  offset: usize,
  keys: i32,
  out: usize,
  rowBytes: i32,
  state: usize,
  full: bool,
  spread: usize,
): void {
  let row = 0;
  for (; row + 4 <= rows; row += 4) {
    let first = 0;
    let stop = keys;
    if (!full) {
      for (let index = row; index < row + 4; index++) {
        first = max(first, load<i32>(state + index * 20, 12));
        stop = min(stop, load<i32>(state + index * 20, 16));
      }
    }
    const w = weights + row * <i32>SCORE_STRIDE;
    const o = out + row * rowBytes;
    if (first < stop) {
      for (let index = 0; index < 4; index++) {
        spreadWeights(w + index * <i32>SCORE_STRIDE, spread + index * <i32>SPREAD_STRIDE, stop);
      }
      fourRows(spread, valueRows, offset, first, stop, o, rowBytes, state + row * 20);
    }
    if (full) continue;
    // The keys that only some of the four rows see.
    for (let index = row; index < row + 4; index++) {
      const rowFirst = load<i32>(state + index * 20, 12);
      const rowStop = load<i32>(state + index * 20, 16);
      const rowWeights = weights + index * <i32>SCORE_STRIDE;
      const rowOut = out + index * rowBytes;
      if (first >= stop) {
        const factor = load<f32>(state + index * 20, 8);
        oneRow(rowWeights, valueRows, offset, rowFirst, rowStop, rowOut, rowBytes, factor);
      } else {
        if (rowFirst < first) oneRow(rowWeights, valueRows, offset, rowFirst, first, rowOut, rowBytes, 1);
        if (stop < rowStop) oneRow(rowWeights, valueRows, offset, stop, rowStop, rowOut, rowBytes, 1);
      }
    }
  }
  for (; row < rows; row++) {
    const rowState = state + row * 20;
    const rowOut = out + row * rowBytes;
    oneRow(
      weights + row * <i32>SCORE_STRIDE,
      valueRows,
      offset,
      load<i32>(rowState, 12),
      load<i32>(rowState, 16),
      rowOut,
      rowBytes,
      load<f32>(rowState, 8),
    );
  }
}

/** Each of `count` weights as a vector; up to three beyond them may be read and written. */
function spreadWeights(weights: usize, spread: usize, count: i32): void {
  for (const end = weights + count * 4; weights < end; weights += 16) {
    const four = v128.load(weights);
    v128.store(spread, i8x16.swizzle(four, i8x16(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3)));
    v128.store(spread, i8x16.swizzle(four, i8x16(4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7)), 16);
    v128.store(spread, i8x16.swizzle(four, i8x16(8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11)), 32);
    v128.store(spread, i8x16.swizzle(four, i8x16(12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15)), 48);
    spread += 64;
  }
}

function fourRows(
  spread: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  out: usize,
  rowBytes: i32,
  state: usize,
): void {
  const r0 = v128.load32_splat(state, 8);
  const r1 = v128.load32_splat(state, 28);
  const r2 = v128.load32_splat(state, 48);
  const r3 = v128.load32_splat(state, 68);
  let at = 0;
  for (; at + 32 <= rowBytes; at += 32) {
    let a0 = f32x4.splat(0);
    let a1 = f32x4.splat(0);
    let b0 = f32x4.splat(0);
    let b1 = f32x4.splat(0);
    let c0 = f32x4.splat(0);
    let c1 = f32x4.splat(0);
    let d0 = f32x4.splat(0);
    let d1 = f32x4.splat(0);
    const column = offset + at;
    let pointer = valueRows + first * 4;
    let weight = spread + first * 16;
    const end = valueRows + stop * 4;
    while (pointer < end) {
      const value: usize = load<u32>(pointer) + column;
      const v0 = v128.load(value);
      const v1 = v128.load(value, 16);
      let w = v128.load(weight);
      a0 = multiplyAdd(a0, w, v0);
      a1 = multiplyAdd(a1, w, v1);
      w = v128.load(weight, SPREAD_STRIDE);
      b0 = multiplyAdd(b0, w, v0);
      b1 = multiplyAdd(b1, w, v1);
      w = v128.load(weight, 2 * SPREAD_STRIDE);
      c0 = multiplyAdd(c0, w, v0);
      c1 = multiplyAdd(c1, w, v1);
      w = v128.load(weight, 3 * SPREAD_STRIDE);
      d0 = multiplyAdd(d0, w, v0);
      d1 = multiplyAdd(d1, w, v1);
      pointer += 4;
      weight += 16;
    }
    let o = out + at;
    v128.store(o, multiplyAdd(a0, r0, v128.load(o)));
    v128.store(o, multiplyAdd(a1, r0, v128.load(o, 16)), 16);
    o += rowBytes;
    v128.store(o, multiplyAdd(b0, r1, v128.load(o)));
    v128.store(o, multiplyAdd(b1, r1, v128.load(o, 16)), 16);
    o += rowBytes;
    v128.store(o, multiplyAdd(c0, r2, v128.load(o)));
    v128.store(o, multiplyAdd(c1, r2, v128.load(o, 16)), 16);
    o += rowBytes;
    v128.store(o, multiplyAdd(d0, r3, v128.load(o)));
    v128.store(o, multiplyAdd(d1, r3, v128.load(o, 16)), 16);
  }
  if (at < rowBytes) {
    let a = f32x4.splat(0);
    let b = f32x4.splat(0);
    let c = f32x4.splat(0);
    let d = f32x4.splat(0);
    for (let key = first * 4; key < stop * 4; key += 4) {
      const v = v128.load(<usize>load<u32>(valueRows + key) + offset + at);
      a = multiplyAdd(a, v128.load(spread + key * 4), v);
      b = multiplyAdd(b, v128.load(spread + key * 4, SPREAD_STRIDE), v);
      c = multiplyAdd(c, v128.load(spread + key * 4, 2 * SPREAD_STRIDE), v);
      d = multiplyAdd(d, v128.load(spread + key * 4, 3 * SPREAD_STRIDE), v);
    }
    let o = out + at;
    v128.store(o, multiplyAdd(a, r0, v128.load(o)));
    o += rowBytes;
    v128.store(o, multiplyAdd(b, r1, v128.load(o)));
    o += rowBytes;
    v128.store(o, multiplyAdd(c, r2, v128.load(o)));
    o += rowBytes;
    v128.store(o, multiplyAdd(d, r3, v128.load(o)));
  }
}

function oneRow(
  weights: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  out: usize,
  rowBytes: i32,
  rescale: f32,
): void {
  const r = f32x4.splat(rescale);
  let at = 0;
  for (; at + 64 <= rowBytes; at += 64) {
    let a = f32x4.splat(0);
    let b = f32x4.splat(0);
    let c = f32x4.splat(0);
    let d = f32x4.splat(0);
    const column = offset + at;
    for (let key = first * 4; key < stop * 4; key += 4) {
      const value: usize = load<u32>(valueRows + key) + column;
      const w = f32x4.splat(load<f32>(weights + key));
      a = multiplyAdd(a, w, v128.load(value));
      b = multiplyAdd(b, w, v128.load(value, 16));
      c = multiplyAdd(c, w, v128.load(value, 32));
      d = multiplyAdd(d, w, v128.load(value, 48));
    }
    const o = out + at;
    v128.store(o, multiplyAdd(a, r, v128.load(o)));
    v128.store(o, multiplyAdd(b, r, v128.load(o, 16)), 16);
    v128.store(o, multiplyAdd(c, r, v128.load(o, 32)), 32);
    v128.store(o, multiplyAdd(d, r, v128.load(o, 48)), 48);
  }
  for (; at < rowBytes; at += 16) {
    let a = f32x4.splat(0);
    for (let key = first * 4; key < stop * 4; key += 4) {
      const value = v128.load(<usize>load<u32>(valueRows + key) + offset + at);
      a = multiplyAdd(a, f32x4.splat(load<f32>(weights + key)), value);
    }
    v128.store(out + at, multiplyAdd(a, r, v128.load(out + at)));
  }
}
