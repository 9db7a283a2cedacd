// Rows of queries, keys and values as f32, padded with zeros to a multiple of four columns.

import { F8_LOWER, F8_UPPER, TWO_112 } from "../../wasm/constants.as";
import { BF16, F16, F8, load1, load4 } from "../../wasm/dtype.as";
import { evens, odds } from "../../wasm/halves.as";

// @ts-ignore: decorator
@inline
function twice(bits: v128): v128 {
  return i16x8.add(bits, bits);
}

/**
 * One row of unit stride. `paired` (16-bit dtypes, multiples of eight columns): of eight columns, those of even number
 * before those of odd number, which are found without taking a vector apart. Dot products do not mind; see `unpaired`.
 */
export function convertRow<T>(source: usize, target: usize, dim: i32, paired: bool): void {
  if (sizeof<T>() == 2 && paired) {
    convertPairs<T>(source, target, dim);
    return;
  }
  const end = source + dim * sizeof<T>();
  const unrolled = source + (dim & ~15) * sizeof<T>();
  if (sizeof<T>() == 1) {
    while (source < unrolled) {
      if (isSigned<T>()) storeI8(v128.load(source), target, false, 1);
      else storeF8(v128.load(source), target, false, 1);
      source += 16;
      target += 64;
    }
  }
  while (source + 4 * sizeof<T>() <= end) {
    v128.store(target, load4<T>(source));
    source += 4 * sizeof<T>();
    target += 16;
  }
  if (source < end) {
    v128.store(target, f32x4.splat(0));
    while (source < end) {
      store<f32>(target, load1<T>(source));
      source += sizeof<T>();
      target += 4;
    }
  }
}

/** One row of unit stride and 8-bit elements, times `scale`. */
export function convertScaledRow<T>(source: usize, target: usize, dim: i32, scale: f32): void {
  const end = source + dim;
  const unrolled = source + (dim & ~15);
  while (source < unrolled) {
    if (isSigned<T>()) storeI8(v128.load(source), target, true, scale);
    else storeF8(v128.load(source), target, true, scale);
    source += 16;
    target += 64;
  }
  while (source + 4 <= end) {
    v128.store(target, f32x4.mul(load4<T>(source), f32x4.splat(scale)));
    source += 4;
    target += 16;
  }
  if (source < end) {
    v128.store(target, f32x4.splat(0));
    while (source < end) {
      store<f32>(target, load1<T>(source) * scale);
      source += 1;
      target += 4;
    }
  }
}

// @ts-ignore: decorator
@inline
function convertPairs<T>(source: usize, target: usize, dim: i32): void {
  const end = source + dim * 2;
  if (isSigned<T>()) {
    while (source < end) {
      const patterns = v128.load(source);
      v128.store(target, evens<T>(patterns));
      v128.store(target, odds<T>(patterns), 16);
      source += 16;
      target += 32;
    }
    return;
  }
  // The largest magnitude, in the upper 15 bits, tells afterwards whether anything was infinite or NaN.
  let largest = i32x4.splat(0);
  const start = source;
  while (source < end) {
    const patterns = v128.load(source);
    v128.store(target, f32x4.mul(evens<T>(patterns), TWO_112));
    v128.store(target, f32x4.mul(odds<T>(patterns), TWO_112), 16);
    largest = i16x8.max_u(largest, twice(patterns));
    source += 16;
    target += 32;
  }
  if (!v128.any_true(i16x8.ge_u(largest, i16x8.splat(<i16>0xf800)))) return;
  source = start;
  target -= dim * 4;
  while (source < end) {
    const patterns = v128.load(source);
    v128.store(target, withSpecials(f32x4.mul(evens<T>(patterns), TWO_112)));
    v128.store(target, withSpecials(f32x4.mul(odds<T>(patterns), TWO_112)), 16);
    source += 16;
    target += 32;
  }
}

/** What came out as 2^16 or more was infinity or NaN. */
// @ts-ignore: decorator
@inline
function withSpecials(scaled: v128): v128 {
  const special = f32x4.ge(f32x4.abs(scaled), f32x4.splat(65536));
  return v128.or(scaled, v128.and(special, i32x4.splat(0x7f800000)));
}

/** Of each eight columns of a row in memory order, those of even number before those of odd number. */
export function pairRow(row: usize, dim: i32): void {
  for (const end = row + dim * 4; row < end; row += 32) {
    const low = v128.load(row);
    const high = v128.load(row, 16);
    v128.store(row, v128.shuffle<f32>(low, high, 0, 2, 4, 6));
    v128.store(row, v128.shuffle<f32>(low, high, 1, 3, 5, 7), 16);
  }
}

/** Undoes pairRow. */
export function unpairRow(row: usize, dim: i32): void {
  for (const end = row + dim * 4; row < end; row += 32) {
    const even = v128.load(row);
    const odd = v128.load(row, 16);
    v128.store(row, v128.shuffle<f32>(even, odd, 0, 4, 1, 5));
    v128.store(row, v128.shuffle<f32>(even, odd, 2, 6, 3, 7), 16);
  }
}

/** Four numbers, times `scale` if `scales`, which is known when this is compiled. */
// @ts-ignore: decorator
@inline
function storeTimes(target: usize, numbers: v128, scales: bool, scale: f32): void {
  v128.store(target, scales ? f32x4.mul(numbers, f32x4.splat(scale)) : numbers);
}

/** Sixteen i8 as f32. */
// @ts-ignore: decorator
@inline
function storeI8(bytes: v128, target: usize, scales: bool, scale: f32): void {
  const low = i16x8.extend_low_i8x16_s(bytes);
  const high = i16x8.extend_high_i8x16_s(bytes);
  storeTimes(target, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(low)), scales, scale);
  storeTimes(target + 16, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(low)), scales, scale);
  storeTimes(target + 32, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(high)), scales, scale);
  storeTimes(target + 48, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(high)), scales, scale);
}

/**
 * Sixteen e4m3 as f32. The upper 16 bits of such an f32 are all it has: both their bytes are found by shifts, or for
 * the sixteen smallest magnitudes, some of them subnormal, in a table. (Multiplying shifted bits is shorter, but slow
 * where they make subnormal f32 numbers.)
 */
// @ts-ignore: decorator
@inline
function storeF8(bytes: v128, target: usize, scales: bool, scale: f32): void {
  const magnitudes = v128.and(bytes, i8x16.splat(0x7f));
  const isSmall = i8x16.lt_s(magnitudes, i8x16.splat(16));
  const nan = v128.and(i8x16.eq(magnitudes, i8x16.splat(0x7f)), i8x16.splat(0x7f));
  // Bytes are shifted in 16-bit lanes; what comes from the neighbour is masked away.
  const upperShifted = i8x16.add(v128.and(i16x8.shr_u(magnitudes, 4), i8x16.splat(0x07)), i8x16.splat(0x3c));
  const lowerShifted = v128.and(i16x8.shl(magnitudes, 4), i8x16.splat(-16));
  const upperMagnitude = v128.bitselect(i8x16.swizzle(F8_UPPER, magnitudes), upperShifted, isSmall);
  const lower = v128.bitselect(i8x16.swizzle(F8_LOWER, magnitudes), lowerShifted, isSmall);
  const upper = v128.or(v128.or(upperMagnitude, nan), v128.and(bytes, i8x16.splat(-128)));
  const zero = i32x4.splat(0);
  const low = v128.shuffle<u8>(lower, upper, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const high = v128.shuffle<u8>(lower, upper, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  storeTimes(target, v128.shuffle<u16>(zero, low, 0, 8, 0, 9, 0, 10, 0, 11), scales, scale);
  storeTimes(target + 16, v128.shuffle<u16>(zero, low, 0, 12, 0, 13, 0, 14, 0, 15), scales, scale);
  storeTimes(target + 32, v128.shuffle<u16>(zero, high, 0, 8, 0, 9, 0, 10, 0, 11), scales, scale);
  storeTimes(target + 48, v128.shuffle<u16>(zero, high, 0, 12, 0, 13, 0, 14, 0, 15), scales, scale);
}

/** A query row times `scale`; dtype 0 f32, 1 f16, 2 bf16, 3 f8e4m3. */
export function loadQueryRow(source: usize, stride: u32, dtype: i32, target: usize, dim: i32, scale: f32): void {
  if (dtype == 0) scaledRow<f32>(source, stride, target, dim, scale);
  else if (dtype == 1) scaledRow<F16>(source, stride, target, dim, scale);
  else if (dtype == 3) scaledRow<F8>(source, stride, target, dim, scale);
  else scaledRow<BF16>(source, stride, target, dim, scale);
}

function scaledRow<T>(source: usize, stride: u32, target: usize, dim: i32, scale: f32): void {
  let column = 0;
  if (stride == sizeof<T>()) {
    for (; column + 4 <= dim; column += 4) {
      v128.store(target + column * 4, f32x4.mul(load4<T>(source), f32x4.splat(scale)));
      source += 4 * sizeof<T>();
    }
  }
  for (; column < dim; column++) {
    store<f32>(target + column * 4, load1<T>(source) * scale);
    source += stride;
  }
  for (; (column & 3) != 0; column++) store<f32>(target + column * 4, 0);
}
