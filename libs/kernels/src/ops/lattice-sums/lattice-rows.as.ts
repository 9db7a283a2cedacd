// Adding weighted values on a lattice, for one row, four, or several times four.
//
// Numerics: a weight has its lowest bit set at 2^-28 of its power of two, so that its product with an f32 is exact in
// f64 and never lies half-way between two multiples of the lattice's step. Adding it to an f64 whose last place is that
// step rounds it to a multiple, the same one whatever was added before; all else is exact. So sums have no order, and
// a fused multiply-add would give the same bits.

import { exp2Negative4 } from "../../wasm/math.as";

/**
 * Bytes from one row of weights to the next: at most 128 of them, each in both lanes of a vector, and 16 bytes more so
 * that rows spread over the cache.
 */
export const WEIGHT_STRIDE: usize = 2064;

/** Rows whose weights are made before any of their values are added. */
export const ROWS_TOGETHER: i32 = 16;

/** Where values in f64 lie, behind the weights: four columns of at most 128 keys. */
const PACKED: usize = ROWS_TOGETHER * WEIGHT_STRIDE;

/**
 * Bytes from one row of f64 sums to the next: `columns` of them, and a cache line more, since rows a power of two apart
 * would share the same few places of the L1 cache.
 */
// @ts-ignore: decorator
@inline
export function sumsBytes(columns: i32): i32 {
  return columns * 8 + 64;
}

/** The bit that makes a weight odd. */
const ODD: i64 = 1 << 24;

/**
 * Weights, as f64, of the scores [first, stop) in `row`, in units of ln 2, relative to `largest`; all are added to the
 * two lanes at `total`. Up to three scores before and after them are overwritten.
 */
export function latticeWeights(
  row: usize,
  first: i32,
  stop: i32,
  largest: f32,
  weights: usize,
  total: usize,
): void {
  const from = first & ~3;
  for (let key = from; key < first; key++) store<f32>(row + key * 4, -Infinity);
  for (let key = stop; (key & 3) != 0; key++) store<f32>(row + key * 4, -Infinity);
  const reference = f32x4.splat(largest);
  const odd = i64x2.splat(ODD);
  let sum = v128.load(total);
  for (let key = from; key < stop; key += 4) {
    const weight = exp2Negative4(f32x4.sub(v128.load(row + key * 4), reference));
    const zero = f32x4.eq(weight, f32x4.splat(0));
    const high = v128.shuffle<f32>(weight, weight, 2, 3, 2, 3);
    const a = v128.andnot(v128.or(f64x2.promote_low_f32x4(weight), odd), v128.shuffle<f32>(zero, zero, 0, 0, 1, 1));
    const b = v128.andnot(v128.or(f64x2.promote_low_f32x4(high), odd), v128.shuffle<f32>(zero, zero, 2, 2, 3, 3));
    v128.store(weights + key * 16, v128.shuffle<f64>(a, a, 0, 0));
    v128.store(weights + key * 16, v128.shuffle<f64>(a, a, 1, 1), 16);
    v128.store(weights + key * 16, v128.shuffle<f64>(b, b, 0, 0), 32);
    v128.store(weights + key * 16, v128.shuffle<f64>(b, b, 1, 1), 48);
    sum = f64x2.add(f64x2.add(sum, a), b);
  }
  v128.store(total, sum);
}

// @ts-ignore: decorator
@inline
function multiplyAdd(sum: v128, a: v128, b: v128): v128 {
  return f64x2.add(sum, f64x2.mul(a, b));
}

/**
 * Adds the weighted values of the keys [first, stop) to `groups` of four rows. `valueRows` points to addresses of f32
 * rows of `columns` elements, a multiple of 4, each to be moved by `offset`; f64 sums of the rows lie sumsBytes apart.
 * Values become f64 once for all groups, four columns at a time, side by side.
 */
export function latticeGroups(
  weights: usize,
  groups: i32,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  sums: usize,
  columns: i32,
): void {
  const sumBytes: usize = sumsBytes(columns);
  const packed = weights + PACKED;
  for (let column = 0; column < columns; column += 4) {
    packColumns(valueRows, offset + column * 4, first, stop, packed);
    let o = sums + column * 8;
    let w = weights + first * 16;
    for (let group = 0; group < groups; group++) {
      addFour<f64>(w, packed, packed + (stop - first) * 32, 0, o, sumBytes);
      o += 4 * sumBytes;
      w += 4 * WEIGHT_STRIDE;
    }
  }
}

/** Four columns of the keys' values as f64, side by side. */
// @ts-ignore: decorator
@inline
function packColumns(valueRows: usize, at: usize, first: i32, stop: i32, packed: usize): void {
  const end = valueRows + stop * 4;
  for (let pointer = valueRows + first * 4; pointer < end; pointer += 4) {
    const value: usize = load<u32>(pointer) + at;
    v128.store(packed, f64x2.promote_low_f32x4(v128.load64_zero(value)));
    v128.store(packed, f64x2.promote_low_f32x4(v128.load64_zero(value, 8)), 16);
    packed += 32;
  }
}

/** The same for four rows, whose values become f64 as they are added. */
export function latticeFourRows(
  weights: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  sums: usize,
  columns: i32,
): void {
  for (let column = 0; column < columns; column += 4) {
    const o = sums + column * 8;
    const end = valueRows + stop * 4;
    addFour<u32>(weights + first * 16, valueRows + first * 4, end, offset + column * 4, o, sumsBytes(columns));
  }
}

/**
 * Adds weighted values of four columns to four rows, `sumBytes` apart. T = u32: `next` to `end` are addresses of f32
 * rows, each to be moved by `offset`. T = f64: they are the values.
 */
// @ts-ignore: decorator
@inline
function addFour<T>(weight: usize, next: usize, end: usize, offset: usize, a: usize, sumBytes: usize): void {
  const b = a + sumBytes;
  const c = b + sumBytes;
  const d = c + sumBytes;
  let a0 = v128.load(a);
  let a1 = v128.load(a, 16);
  let b0 = v128.load(b);
  let b1 = v128.load(b, 16);
  let c0 = v128.load(c);
  let c1 = v128.load(c, 16);
  let d0 = v128.load(d);
  let d1 = v128.load(d, 16);
  while (next < end) {
    const value: usize = isFloat<T>() ? next : load<u32>(next) + offset;
    const v0 = isFloat<T>() ? v128.load(value) : f64x2.promote_low_f32x4(v128.load64_zero(value));
    const v1 = isFloat<T>() ? v128.load(value, 16) : f64x2.promote_low_f32x4(v128.load64_zero(value, 8));
    let w = v128.load(weight);
    a0 = multiplyAdd(a0, w, v0);
    a1 = multiplyAdd(a1, w, v1);
    w = v128.load(weight, WEIGHT_STRIDE);
    b0 = multiplyAdd(b0, w, v0);
    b1 = multiplyAdd(b1, w, v1);
    w = v128.load(weight, 2 * WEIGHT_STRIDE);
    c0 = multiplyAdd(c0, w, v0);
    c1 = multiplyAdd(c1, w, v1);
    w = v128.load(weight, 3 * WEIGHT_STRIDE);
    d0 = multiplyAdd(d0, w, v0);
    d1 = multiplyAdd(d1, w, v1);
    next += isFloat<T>() ? 32 : 4;
    weight += 16;
  }
  v128.store(a, a0);
  v128.store(a, a1, 16);
  v128.store(b, b0);
  v128.store(b, b1, 16);
  v128.store(c, c0);
  v128.store(c, c1, 16);
  v128.store(d, d0);
  v128.store(d, d1, 16);
}

/** The same for one row, whose values become f64 as they are added. */
export function latticeOneRow(
  weights: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  sums: usize,
  columns: i32,
): void {
  let column = 0;
  for (; column + 8 <= columns; column += 8) {
    const o = sums + column * 8;
    let a = v128.load(o);
    let b = v128.load(o, 16);
    let c = v128.load(o, 32);
    let d = v128.load(o, 48);
    for (let key = first; key < stop; key++) {
      const value: usize = load<u32>(valueRows + key * 4) + offset + column * 4;
      const w = v128.load(weights + key * 16);
      a = multiplyAdd(a, w, f64x2.promote_low_f32x4(v128.load64_zero(value)));
      b = multiplyAdd(b, w, f64x2.promote_low_f32x4(v128.load64_zero(value, 8)));
      c = multiplyAdd(c, w, f64x2.promote_low_f32x4(v128.load64_zero(value, 16)));
      d = multiplyAdd(d, w, f64x2.promote_low_f32x4(v128.load64_zero(value, 24)));
    }
    v128.store(o, a);
    v128.store(o, b, 16);
    v128.store(o, c, 32);
    v128.store(o, d, 48);
  }
  for (; column < columns; column += 4) {
    const o = sums + column * 8;
    let a = v128.load(o);
    let b = v128.load(o, 16);
    for (let key = first; key < stop; key++) {
      const value: usize = load<u32>(valueRows + key * 4) + offset + column * 4;
      const w = v128.load(weights + key * 16);
      a = multiplyAdd(a, w, f64x2.promote_low_f32x4(v128.load64_zero(value)));
      b = multiplyAdd(b, w, f64x2.promote_low_f32x4(v128.load64_zero(value, 8)));
    }
    v128.store(o, a);
    v128.store(o, b, 16);
  }
}
