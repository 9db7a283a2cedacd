// Adding weighted values on a lattice, for one row or four.
//
// Numerics: a weight has its lowest bit set at 2^-28 of its power of two, so that its product with an f32 is exact in
// f64 and never lies half-way between two multiples of the lattice's step. Adding it to an f64 whose last place is that
// step rounds it to a multiple, the same one whatever was added before; all else is exact. So sums have no order, and
// a fused multiply-add would give the same bits.

import { exp2Negative4 } from "../../wasm/math.as";

/** Bytes from one row of f64 weights to the next: at most 128 keys, and 16 more so that rows spread over the cache. */
export const WEIGHT_STRIDE: usize = 1040;

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
    v128.store(weights + key * 8, a);
    v128.store(weights + key * 8, b, 16);
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
 * Adds the four rows' weighted values of the keys [first, stop). `valueRows` points to addresses of f32 rows of
 * `columns` elements, a multiple of 4, each to be moved by `offset`; f64 sums of the rows lie one after another.
 */
export function latticeFourRows(
  weights: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  sums: usize,
  columns: i32,
): void {
  const sumBytes: usize = columns * 8;
  for (let column = 0; column < columns; column += 4) {
    const a = sums + column * 8;
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
    const at = offset + column * 4;
    let pointer = valueRows + first * 4;
    let weight = weights + first * 8;
    const end = valueRows + stop * 4;
    while (pointer < end) {
      const value: usize = load<u32>(pointer) + at;
      const v0 = f64x2.promote_low_f32x4(v128.load64_zero(value));
      const v1 = f64x2.promote_low_f32x4(v128.load64_zero(value, 8));
      let w = v128.load64_splat(weight);
      a0 = multiplyAdd(a0, w, v0);
      a1 = multiplyAdd(a1, w, v1);
      w = v128.load64_splat(weight, WEIGHT_STRIDE);
      b0 = multiplyAdd(b0, w, v0);
      b1 = multiplyAdd(b1, w, v1);
      w = v128.load64_splat(weight, 2 * WEIGHT_STRIDE);
      c0 = multiplyAdd(c0, w, v0);
      c1 = multiplyAdd(c1, w, v1);
      w = v128.load64_splat(weight, 3 * WEIGHT_STRIDE);
      d0 = multiplyAdd(d0, w, v0);
      d1 = multiplyAdd(d1, w, v1);
      pointer += 4;
      weight += 8;
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
}

/** The same for one row. */
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
      const w = v128.load64_splat(weights + key * 8);
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
      const w = v128.load64_splat(weights + key * 8);
      a = multiplyAdd(a, w, f64x2.promote_low_f32x4(v128.load64_zero(value)));
      b = multiplyAdd(b, w, f64x2.promote_low_f32x4(v128.load64_zero(value, 8)));
    }
    v128.store(o, a);
    v128.store(o, b, 16);
  }
}
