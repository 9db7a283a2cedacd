// Rows of 16-bit floats, eight elements of a vector as two f32x4: those of even and those of odd columns, which come
// from 32-bit lanes and go back into them in place, without shuffles. Finite elements only.

import { MAGNITUDE, SIGN } from "./constants.as";
import { f16Pattern, roundedToBf16 } from "./narrow.as";

/** Whether `columns` elements are a multiple of eight, and finite. */
export function allFinite<T>(row: usize, columns: i32): bool {
  if ((columns & 7) != 0) return false;
  const end = row + columns * 2;
  let largest = i16x8.splat(0);
  while (row + 32 <= end) {
    largest = i16x8.max_u(largest, i16x8.max_u(twice(v128.load(row)), twice(v128.load(row, 16))));
    row += 32;
  }
  if (row < end) largest = i16x8.max_u(largest, twice(v128.load(row)));
  const limit = i16x8.splat(isSigned<T>() ? <i16>0xfeff : <i16>0xf7ff);
  return !v128.any_true(i16x8.sub_sat_u(largest, limit));
}

/** The magnitudes in the upper 15 bits. */
// @ts-ignore: decorator
@inline
function twice(patterns: v128): v128 {
  return i16x8.add(patterns, patterns);
}

/** What evens and odds must be multiplied by: 2^112 for f16, whose exponent has another bias; 1 for bf16. */
// @ts-ignore: decorator
@inline
export function unit<T>(): f32 {
  return isSigned<T>() ? 1 : reinterpret<f32>(0x77800000);
}

/** Elements 0, 2, 4 and 6, over unit<T>(). */
// @ts-ignore: decorator
@inline
export function evens<T>(patterns: v128): v128 {
  if (isSigned<T>()) return i32x4.shl(patterns, 16);
  return v128.and(i32x4.dot_i16x8_s(patterns, i32x4.splat(0x00002000)), i32x4.splat(0x8fffe000));
}

/** Elements 1, 3, 5 and 7, over unit<T>(). */
// @ts-ignore: decorator
@inline
export function odds<T>(patterns: v128): v128 {
  if (isSigned<T>()) return v128.and(patterns, i32x4.splat(0xffff0000));
  return v128.and(i32x4.dot_i16x8_s(patterns, i32x4.splat(0x20000000)), i32x4.splat(0x8fffe000));
}

/** Sums of evens and odds (none is NaN) as elements. */
// @ts-ignore: decorator
@inline
export function joined<T>(even: v128, odd: v128): v128 {
  if (isSigned<T>()) return joinedBf16(even, odd);
  const signs = v128.or(i32x4.shr_u(v128.and(even, SIGN), 16), v128.and(odd, SIGN));
  // 65536 is infinity.
  const limit = i32x4.splat(0x47800000);
  const evenSize = i32x4.min_s(v128.and(even, MAGNITUDE), limit);
  const oddSize = i32x4.min_s(v128.and(odd, MAGNITUDE), limit);
  return v128.or(joinedF16(evenSize, oddSize), signs);
}

/** Eight elements times a factor from 0 to 1, which is given times unit<T>(). */
// @ts-ignore: decorator
@inline
export function scaled<T>(patterns: v128, factor: v128): v128 {
  if (isSigned<T>()) return joinedBf16(f32x4.mul(evens<T>(patterns), factor), f32x4.mul(odds<T>(patterns), factor));
  const magnitudes = v128.and(patterns, i16x8.splat(0x7fff));
  const even = f32x4.mul(i32x4.dot_i16x8_s(magnitudes, i32x4.splat(0x00002000)), factor);
  const odd = f32x4.mul(i32x4.dot_i16x8_s(magnitudes, i32x4.splat(0x20000000)), factor);
  return v128.or(joinedF16(even, odd), v128.and(patterns, i16x8.splat(-0x8000)));
}

// @ts-ignore: decorator
@inline
function joinedBf16(even: v128, odd: v128): v128 {
  return v128.or(i32x4.shr_u(roundedToBf16(even), 16), v128.and(roundedToBf16(odd), i32x4.splat(0xffff0000)));
}

// @ts-ignore: decorator
@inline
function joinedF16(even: v128, odd: v128): v128 {
  // Both patterns bring 0x1f800 with them.
  return i32x4.add(i32x4.add(f16Pattern(even), i32x4.splat(0x07fe0800)), i32x4.shl(f16Pattern(odd), 16));
}
