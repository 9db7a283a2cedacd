// f32 to narrower formats, eight lanes at a time: rounded to nearest, ties to even, without branches.
//
// The small floats round in hardware. A magic number is added whose last place is the last place of the result, so that
// the low half of the sum counts the result's units, and the high half is the magic number's exponent. One dot product
// of the two halves makes a pattern of them; a constant is left over, which the magic number's own low bits or a
// subtraction take away.

import { EXPONENT, MAGNITUDE } from "./constants.as";

/** Lanes of -1 where there is a number, 0 where there is a NaN. */
// @ts-ignore: decorator
@inline
function numberLanes(low: v128, high: v128): v128 {
  return i16x8.narrow_i32x4_s(f32x4.eq(low, low), f32x4.eq(high, high));
}

/** The sign bits. (Narrowing saturates f32 patterns, and so keeps the sign of all of them.) */
// @ts-ignore: decorator
@inline
function signBits(low: v128, high: v128): v128 {
  return v128.and(i16x8.narrow_i32x4_s(low, high), i16x8.splat(-0x8000));
}

/**
 * A power of two 2^13 times that of a magnitude, but at least 2^-1: the units of its last place are those of the
 * binary16 number nearest to the magnitude.
 */
// @ts-ignore: decorator
@inline
function f16Magic(magnitude: v128): v128 {
  const exponent = v128.and(magnitude, EXPONENT);
  return i32x4.add(i32x4.max_s(exponent, i32x4.splat(0x38800000)), i32x4.splat(0x06800000));
}

/** Magnitudes of at most 65536 (which is infinity) as binary16 patterns, plus 0x1f800. */
// @ts-ignore: decorator
@inline
export function f16Pattern(magnitude: v128): v128 {
  return i32x4.dot_i16x8_s(f32x4.add(magnitude, f16Magic(magnitude)), i32x4.splat(0x00080001));
}

// @ts-ignore: decorator
@inline
function saturatedF16Pattern(value: v128): v128 {
  const magnitude = v128.and(value, MAGNITUDE);
  return i32x4.sub(f16Pattern(i32x4.min_s(magnitude, i32x4.splat(0x47800000))), i32x4.splat(0x1f800));
}

/** As binary16; a NaN is 0x7e00 with its sign. */
// @ts-ignore: decorator
@inline
export function f32ToF16(low: v128, high: v128): v128 {
  const magnitude = i16x8.narrow_i32x4_u(saturatedF16Pattern(low), saturatedF16Pattern(high));
  // What was NaN has saturated to infinity.
  const nan = v128.andnot(i16x8.splat(0x0200), numberLanes(low, high));
  return v128.or(v128.or(magnitude, signBits(low, high)), nan);
}

/**
 * value + 0x7fff, + 1 where the last place that is kept is odd: its upper half is rounded to bfloat16, but for a NaN.
 */
// @ts-ignore: decorator
@inline
export function roundedToBf16(value: v128): v128 {
  const even = i32x4.eq(v128.and(value, i32x4.splat(0x10000)), i32x4.splat(0));
  return i32x4.add(i32x4.add(value, i32x4.splat(0x8000)), even);
}

/** As bfloat16; a NaN is 0x7fc0 with its sign. */
// @ts-ignore: decorator
@inline
export function f32ToBf16(low: v128, high: v128): v128 {
  const rounded = v128.shuffle<u16>(roundedToBf16(low), roundedToBf16(high), 1, 3, 5, 7, 9, 11, 13, 15);
  const nan = v128.or(signBits(low, high), i16x8.splat(0x7fc0));
  return v128.bitselect(rounded, nan, numberLanes(low, high));
}

/** 256 times the e4m3 patterns of magnitudes, saturating at 448. */
// @ts-ignore: decorator
@inline
function f8Pattern(value: v128): v128 {
  const magnitude = v128.and(value, MAGNITUDE);
  const held = i32x4.min_s(magnitude, i32x4.splat(0x43e00000));
  const exponent = v128.and(held, EXPONENT);
  // 2^20 times the power of two of the magnitude, but at least 2^14; the low half takes away what the exponent adds.
  const magic = i32x4.add(i32x4.max_s(exponent, i32x4.splat(0x3c800000)), i32x4.splat(0x0a00fb98));
  return i32x4.dot_i16x8_s(f32x4.add(held, magic), i32x4.splat(0x00100100));
}

/** Lanes of -1 where there is a finite number, 0 where there is a NaN or an infinity. */
// @ts-ignore: decorator
@inline
function finiteLanes(low: v128, high: v128): v128 {
  const infinity = f32x4.splat(Infinity);
  return i16x8.narrow_i32x4_s(f32x4.lt(f32x4.abs(low), infinity), f32x4.lt(f32x4.abs(high), infinity));
}

/** As e4m3 in the lower eight bytes; a NaN or an infinity is 0x7f with its sign. */
// @ts-ignore: decorator
@inline
export function f32ToF8(low: v128, high: v128): v128 {
  const magnitude = i16x8.narrow_i32x4_s(f8Pattern(low), f8Pattern(high));
  // What was neither has saturated to 0x7e.
  const nan = v128.andnot(i16x8.splat(0x0100), finiteLanes(low, high));
  const patterns = v128.or(v128.or(magnitude, signBits(low, high)), nan);
  return i8x16.swizzle(patterns, i8x16(1, 3, 5, 7, 9, 11, 13, 15, 0, 0, 0, 0, 0, 0, 0, 0));
}

/** The nearest integers, saturating: adding 1.5 * 2^23 rounds and leaves them in the low bits. A NaN is any of them. */
// @ts-ignore: decorator
@inline
function i8Integers(value: v128): v128 {
  const held = f32x4.pmin(f32x4.pmax(value, f32x4.splat(-128)), f32x4.splat(127));
  return i32x4.sub(f32x4.add(held, f32x4.splat(12582912)), i32x4.splat(0x4b400000));
}

/** As i8 in the lower eight bytes; a NaN is 0. */
// @ts-ignore: decorator
@inline
export function f32ToI8(low: v128, high: v128): v128 {
  const integers = i16x8.narrow_i32x4_s(i8Integers(low), i8Integers(high));
  const numbers = v128.and(integers, numberLanes(low, high));
  return i8x16.narrow_i16x8_s(numbers, numbers);
}
