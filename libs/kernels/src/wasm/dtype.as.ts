// Storage types of tensors as type arguments: f32, f16 as u16, bf16 as i16, f8e4m3 as u8 and i8. Every function here is
// exact or rounds to nearest, ties to even; NaN stays NaN. 8-bit stores saturate, and a NaN is 0 in i8. Arithmetic elsewhere is
// on f32x4.

import { F16_MASK, F16_SHIFT, F8_MASK, TWO_112, TWO_120 } from "./constants.as";

export type F16 = u16;
export type BF16 = i16;
export type F8 = u8;
export type I8 = i8;

/** Four consecutive elements as f32x4. */
// @ts-ignore: decorator
@inline
export function load4<T>(at: usize): v128 {
  if (isFloat<T>()) return v128.load(at);
  if (sizeof<T>() == 1) {
    const bytes = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(at)));
    return isSigned<T>() ? f32x4.convert_i32x4_s(bytes) : f8ToF32(bytes);
  }
  if (isSigned<T>()) return i32x4.shl(v128.load16x4_u(at), 16);
  return f16ToF32(v128.load16x4_s(at));
}

/** One element as f32. */
// @ts-ignore: decorator
@inline
export function load1<T>(at: usize): f32 {
  if (isFloat<T>()) return load<f32>(at);
  if (sizeof<T>() == 1) {
    if (isSigned<T>()) return <f32>load<i8>(at);
    return f32x4.extract_lane(f8ToF32(i32x4.splat(load<i8>(at))), 0);
  }
  if (isSigned<T>()) return reinterpret<f32>(load<u16>(at) << 16);
  return f32x4.extract_lane(f16ToF32(i32x4.splat(load<i16>(at))), 0);
}

/** Stores f32x4 as four consecutive elements. */
// @ts-ignore: decorator
@inline
export function store4<T>(at: usize, value: v128): void {
  if (isFloat<T>()) v128.store(at, value);
  else if (sizeof<T>() == 1) v128.store32_lane(at, quantised4<T>(value), 0);
  else v128.store64_lane(at, narrow8<T>(value, value), 0);
}

/** Stores two f32x4 as eight consecutive elements. */
// @ts-ignore: decorator
@inline
export function store8<T>(at: usize, low: v128, high: v128): void {
  if (isFloat<T>()) {
    v128.store(at, low);
    v128.store(at, high, 16);
  } else if (sizeof<T>() == 1) {
    v128.store32_lane(at, quantised4<T>(low), 0);
    v128.store32_lane(at, quantised4<T>(high), 0, 4);
  } else v128.store(at, narrow8<T>(low, high));
}

/** Stores one f32 as an element. */
// @ts-ignore: decorator
@inline
export function store1<T>(at: usize, value: f32): void {
  if (isFloat<T>()) store<f32>(at, value);
  else if (sizeof<T>() == 1) v128.store8_lane(at, quantised4<T>(f32x4.splat(value)), 0);
  else v128.store16_lane(at, narrow8<T>(f32x4.splat(value), f32x4.splat(value)), 0);
}

// @ts-ignore: decorator
@inline
function narrow8<T>(low: v128, high: v128): v128 {
  return isSigned<T>() ? f32ToBf16(low, high) : f32ToF16(low, high);
}

/**
 * binary16 patterns, sign-extended to i32, as f32. Shifting puts exponent and fraction in place; multiplying by 2^112
 * corrects the exponent's bias and normalises subnormals. What comes out as 2^16 or more was infinity or NaN.
 */
// @ts-ignore: decorator
@inline
export function f16ToF32(bits: v128): v128 {
  const scaled = f16ToF32Finite(bits);
  const special = f32x4.ge(f32x4.abs(scaled), f32x4.splat(65536));
  return v128.or(scaled, v128.and(special, i32x4.splat(0x7f800000)));
}

/** As f16ToF32 for patterns that are neither infinity nor NaN. */
// @ts-ignore: decorator
@inline
export function f16ToF32Finite(bits: v128): v128 {
  // A dot product with (2^13, 0) shifts by 13 in one instruction, where some compilers take four for a shift.
  const placed = v128.and(i32x4.dot_i16x8_s(bits, F16_SHIFT), F16_MASK);
  return f32x4.mul(placed, TWO_112);
}

/** The upper halves of eight lanes. */
// @ts-ignore: decorator
@inline
function upperHalves(low: v128, high: v128): v128 {
  return v128.shuffle<u16>(low, high, 1, 3, 5, 7, 9, 11, 13, 15);
}

/** All bits of the 16-bit lanes that stand for a NaN. */
// @ts-ignore: decorator
@inline
function nanLanes(low: v128, high: v128): v128 {
  return i16x8.narrow_i32x4_s(f32x4.ne(low, low), f32x4.ne(high, high));
}

/**
 * A number whose lower 12 bits are the binary16 fraction of |value| (with a carry) and whose exponent ends in the
 * binary16 exponent: adding a power of two whose last place is the binary16 last place rounds in hardware. Source:
 * fp16_ieee_from_fp32_value of the FP16 library (M. Dukhan).
 */
// @ts-ignore: decorator
@inline
function roundedToF16(value: v128): v128 {
  // Up by 2^112, where what binary16 cannot hold overflows, and down by 2^110.
  const up = f32x4.mul(f32x4.abs(value), f32x4.splat(reinterpret<f32>(0x77800000)));
  const base = f32x4.mul(up, f32x4.splat(reinterpret<f32>(0x08800000)));
  const exponent = i32x4.max_s(v128.and(value, i32x4.splat(0x7f800000)), i32x4.splat(0x38800000));
  return f32x4.add(i32x4.add(exponent, i32x4.splat(0x07800000)), base);
}

// @ts-ignore: decorator
@inline
function f32ToF16(low: v128, high: v128): v128 {
  const a = roundedToF16(low);
  const b = roundedToF16(high);
  const exponents = v128.and(i16x8.mul(upperHalves(a, b), i16x8.splat(8)), i16x8.splat(0x7c00));
  const fractions = v128.and(v128.shuffle<u16>(a, b, 0, 2, 4, 6, 8, 10, 12, 14), i16x8.splat(0x0fff));
  const magnitude = v128.bitselect(i16x8.splat(0x7e00), i16x8.add(exponents, fractions), nanLanes(low, high));
  return v128.or(magnitude, v128.and(upperHalves(low, high), i16x8.splat(-0x8000)));
}

/** value + 0x7fff, + 1 where the last place that is kept is odd: its upper half is rounded. */
// @ts-ignore: decorator
@inline
function roundedToBf16(value: v128): v128 {
  const even = i32x4.eq(v128.and(value, i32x4.splat(0x10000)), i32x4.splat(0));
  return i32x4.add(i32x4.add(value, i32x4.splat(0x8000)), even);
}

// @ts-ignore: decorator
@inline
function f32ToBf16(low: v128, high: v128): v128 {
  const rounded = upperHalves(roundedToBf16(low), roundedToBf16(high));
  const nan = v128.or(v128.and(upperHalves(low, high), i16x8.splat(-0x8000)), i16x8.splat(0x7fc0));
  return v128.bitselect(nan, rounded, nanLanes(low, high));
}

/** Four f32 as 8-bit elements in the lowest lanes. */
// @ts-ignore: decorator
@inline
function quantised4<T>(value: v128): v128 {
  if (isSigned<T>()) {
    const integers = i32x4.trunc_sat_f32x4_s(f32x4.nearest(value));
    const words = i16x8.narrow_i32x4_s(integers, integers);
    return i8x16.narrow_i16x8_s(words, words);
  }
  const patterns = f32ToF8(value);
  const words = i16x8.narrow_i32x4_u(patterns, patterns);
  return i8x16.narrow_i16x8_u(words, words);
}

/**
 * e4m3 patterns, sign-extended to i32, as f32: shifting puts exponent and fraction in place, and multiplying by 2^120 corrects
 * the exponent's bias and normalises subnormals. What comes out as 480 was NaN.
 */
// @ts-ignore: decorator
@inline
export function f8ToF32(bits: v128): v128 {
  const scaled = f32x4.mul(v128.and(i32x4.shl(bits, 20), F8_MASK), TWO_120);
  const special = f32x4.ge(f32x4.abs(scaled), f32x4.splat(480));
  return v128.or(scaled, v128.and(special, i32x4.splat(0x7f800000)));
}

/** e4m3 patterns in 32-bit lanes, saturating at 448. */
// @ts-ignore: decorator
@inline
function f32ToF8(value: v128): v128 {
  const magnitude = v128.and(value, i32x4.splat(0x7fffffff));
  const held = i32x4.min_s(magnitude, i32x4.splat(0x43e00000));
  const odd = v128.and(i32x4.shr_u(held, 20), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(held, i32x4.splat(0x7ffff - 0x3c000000)), odd), 20);
  // Adding 2^14, whose last place is 2^-9, rounds to a multiple of 2^-9.
  const subnormal = i32x4.sub(f32x4.add(held, f32x4.splat(16384)), i32x4.splat(0x46800000));
  const finite = v128.bitselect(subnormal, normal, i32x4.lt_s(held, i32x4.splat(0x3c800000)));
  const pattern = v128.bitselect(i32x4.splat(0x7f), finite, i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)));
  return v128.or(pattern, v128.and(i32x4.shr_u(value, 24), i32x4.splat(0x80)));
}
