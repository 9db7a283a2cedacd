// Weighted sums of values over some of a tile's keys, for one row or four.
//
// Four rows by eight columns at a time: eight vectors of sums in registers, six loads for sixteen operations. The
// weights of four rows are spread out first, each as a vector of its own, since every eight columns want them so.
// Every function adds its keys in order, to sums that begin at 0 or go on: a row's bits do not depend on which of them
// ran.

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

/** Each of `count` weights as a vector; up to three beyond them may be read and written. */
export function spreadWeights(weights: usize, spread: usize, count: i32): void {
  for (const end = weights + count * 4; weights < end; weights += 16) {
    const four = v128.load(weights);
    v128.store(spread, i8x16.swizzle(four, i8x16(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3)));
    v128.store(spread, i8x16.swizzle(four, i8x16(4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7)), 16);
    v128.store(spread, i8x16.swizzle(four, i8x16(8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11)), 32);
    v128.store(spread, i8x16.swizzle(four, i8x16(12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15)), 48);
    spread += 64;
  }
}

/** out = out * rescale + sums */
export function addSums(sums: usize, out: usize, rowBytes: i32, rescale: f32): void {
  const r = f32x4.splat(rescale);
  for (let at = 0; at < rowBytes; at += 16) {
    v128.store(out + at, multiplyAdd(v128.load(sums + at), r, v128.load(out + at)));
  }
}

/** out = out * rescale + the four rows' sums over the keys [first, stop); `state` has the factors. */
export function fourRows(
  spread: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  out: usize,
  rowBytes: i32,
  state: usize,
): void {
  sumFourRows(spread, valueRows, offset, first, stop, out, rowBytes, state, false);
}

/** Goes on with the four rows' sums. */
export function addFourRows(
  spread: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  sums: usize,
  rowBytes: i32,
): void {
  sumFourRows(spread, valueRows, offset, first, stop, sums, rowBytes, 0, true);
}

// @ts-ignore: decorator
@inline
function sumFourRows(
  spread: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  out: usize,
  rowBytes: i32,
  state: usize,
  goesOn: bool,
): void {
  const r0 = goesOn ? f32x4.splat(1) : v128.load32_splat(state, 8);
  const r1 = goesOn ? f32x4.splat(1) : v128.load32_splat(state, 28);
  const r2 = goesOn ? f32x4.splat(1) : v128.load32_splat(state, 48);
  const r3 = goesOn ? f32x4.splat(1) : v128.load32_splat(state, 68);
  let at = 0;
  for (; at + 32 <= rowBytes; at += 32) {
    let o = out + at;
    let a0 = start(o, goesOn);
    let a1 = start(o + 16, goesOn);
    let b0 = start(o + rowBytes, goesOn);
    let b1 = start(o + rowBytes + 16, goesOn);
    let c0 = start(o + 2 * rowBytes, goesOn);
    let c1 = start(o + 2 * rowBytes + 16, goesOn);
    let d0 = start(o + 3 * rowBytes, goesOn);
    let d1 = start(o + 3 * rowBytes + 16, goesOn);
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
    v128.store(o, finish(a0, r0, o, goesOn));
    v128.store(o, finish(a1, r0, o + 16, goesOn), 16);
    o += rowBytes;
    v128.store(o, finish(b0, r1, o, goesOn));
    v128.store(o, finish(b1, r1, o + 16, goesOn), 16);
    o += rowBytes;
    v128.store(o, finish(c0, r2, o, goesOn));
    v128.store(o, finish(c1, r2, o + 16, goesOn), 16);
    o += rowBytes;
    v128.store(o, finish(d0, r3, o, goesOn));
    v128.store(o, finish(d1, r3, o + 16, goesOn), 16);
  }
  if (at < rowBytes) {
    let o = out + at;
    let a = start(o, goesOn);
    let b = start(o + rowBytes, goesOn);
    let c = start(o + 2 * rowBytes, goesOn);
    let d = start(o + 3 * rowBytes, goesOn);
    for (let key = first * 4; key < stop * 4; key += 4) {
      const v = v128.load(<usize>load<u32>(valueRows + key) + offset + at);
      a = multiplyAdd(a, v128.load(spread + key * 4), v);
      b = multiplyAdd(b, v128.load(spread + key * 4, SPREAD_STRIDE), v);
      c = multiplyAdd(c, v128.load(spread + key * 4, 2 * SPREAD_STRIDE), v);
      d = multiplyAdd(d, v128.load(spread + key * 4, 3 * SPREAD_STRIDE), v);
    }
    v128.store(o, finish(a, r0, o, goesOn));
    o += rowBytes;
    v128.store(o, finish(b, r1, o, goesOn));
    o += rowBytes;
    v128.store(o, finish(c, r2, o, goesOn));
    o += rowBytes;
    v128.store(o, finish(d, r3, o, goesOn));
  }
}

/** Goes on with one row's sums, if there are keys. */
export function addOneRow(
  weights: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  sums: usize,
  rowBytes: i32,
): void {
  if (first < stop) sumOneRow(weights, valueRows, offset, first, stop, sums, rowBytes, 1, true);
}

/** out = out * rescale + the row's sums over the keys [first, stop). */
export function oneRow(
  weights: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  out: usize,
  rowBytes: i32,
  rescale: f32,
): void {
  sumOneRow(weights, valueRows, offset, first, stop, out, rowBytes, rescale, false);
}

// @ts-ignore: decorator
@inline
function sumOneRow(
  weights: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  out: usize,
  rowBytes: i32,
  rescale: f32,
  goesOn: bool,
): void {
  const r = f32x4.splat(rescale);
  let at = 0;
  for (; at + 64 <= rowBytes; at += 64) {
    const o = out + at;
    let a = start(o, goesOn);
    let b = start(o + 16, goesOn);
    let c = start(o + 32, goesOn);
    let d = start(o + 48, goesOn);
    const column = offset + at;
    for (let key = first * 4; key < stop * 4; key += 4) {
      const value: usize = load<u32>(valueRows + key) + column;
      const w = f32x4.splat(load<f32>(weights + key));
      a = multiplyAdd(a, w, v128.load(value));
      b = multiplyAdd(b, w, v128.load(value, 16));
      c = multiplyAdd(c, w, v128.load(value, 32));
      d = multiplyAdd(d, w, v128.load(value, 48));
    }
    v128.store(o, finish(a, r, o, goesOn));
    v128.store(o, finish(b, r, o + 16, goesOn), 16);
    v128.store(o, finish(c, r, o + 32, goesOn), 32);
    v128.store(o, finish(d, r, o + 48, goesOn), 48);
  }
  for (; at < rowBytes; at += 16) {
    const o = out + at;
    let a = start(o, goesOn);
    for (let key = first * 4; key < stop * 4; key += 4) {
      const value = v128.load(<usize>load<u32>(valueRows + key) + offset + at);
      a = multiplyAdd(a, f32x4.splat(load<f32>(weights + key)), value);
    }
    v128.store(o, finish(a, r, o, goesOn));
  }
}

/** Where a sum begins: at 0, or at what is there if it goes on. `goesOn` is known when this is compiled. */
// @ts-ignore: decorator
@inline
function start(sum: usize, goesOn: bool): v128 {
  return goesOn ? v128.load(sum) : f32x4.splat(0);
}

/** What a sum becomes: itself if it goes on, else what is there, rescaled, with it. */
// @ts-ignore: decorator
@inline
function finish(sum: v128, rescale: v128, out: usize, goesOn: bool): v128 {
  return goesOn ? sum : multiplyAdd(sum, rescale, v128.load(out));
}
