// Storage types of tensors as type arguments: f32, f16 as u16, bf16 as i16, f8e4m3 as u8 and i8. Every function here is
// exact or rounds to nearest, ties to even; NaN stays NaN. 8-bit stores saturate, but an infinity is NaN in f8e4m3; a
// NaN is 0 in i8. Arithmetic elsewhere is on f32x4.

import { F16_MASK, F16_SHIFT, F8_MASK, TWO_112, TWO_120 } from "./constants.as";
import { f32ToBf16, f32ToF16, f32ToF8, f32ToI8 } from "./narrow.as";

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
  else if (sizeof<T>() == 1) store<f32>(at, f32x4.extract_lane(narrow8<T>(value, value), 0));
  else store<f64>(at, f64x2.extract_lane(narrow8<T>(value, value), 0));
}

/** Stores two f32x4 as eight consecutive elements. */
// @ts-ignore: decorator
@inline
export function store8<T>(at: usize, low: v128, high: v128): void {
  if (isFloat<T>()) {
    v128.store(at, low);
    v128.store(at, high, 16);
  } else if (sizeof<T>() == 1) store<f64>(at, f64x2.extract_lane(narrow8<T>(low, high), 0));
  else v128.store(at, narrow8<T>(low, high));
}

/** Stores one f32 as an element. */
// @ts-ignore: decorator
@inline
export function store1<T>(at: usize, value: f32): void {
  if (isFloat<T>()) store<f32>(at, value);
  else {
    const pattern = i32x4.extract_lane(narrow8<T>(f32x4.splat(value), f32x4.splat(value)), 0);
    if (sizeof<T>() == 1) store<u8>(at, pattern);
    else store<u16>(at, pattern);
  }
}

/** Eight f32 as elements, in the lowest lanes. */
// @ts-ignore: decorator
@inline
function narrow8<T>(low: v128, high: v128): v128 {
  if (sizeof<T>() == 1) return isSigned<T>() ? f32ToI8(low, high) : f32ToF8(low, high);
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

/**
 * e4m3 patterns, sign-extended to i32, as f32: shifting puts exponent and fraction in place, and multiplying by 2^120
 * corrects the exponent's bias and normalises subnormals. What comes out as 480 was NaN.
 */
// @ts-ignore: decorator
@inline
export function f8ToF32(bits: v128): v128 {
  const scaled = f32x4.mul(v128.and(i32x4.shl(bits, 20), F8_MASK), TWO_120);
  const special = f32x4.ge(f32x4.abs(scaled), f32x4.splat(480));
  return v128.or(scaled, v128.and(special, i32x4.splat(0x7f800000)));
}
