// Storage types of tensors as type arguments: f32, f16 as u16 and bf16 as i16. Every function here is exact or rounds
// to nearest, ties to even; NaN stays NaN. Arithmetic elsewhere is on f32x4.

export type F16 = u16;
export type BF16 = i16;

/** Four consecutive elements as f32x4. */
// @ts-ignore: decorator
@inline
export function load4<T>(at: usize): v128 {
  if (isFloat<T>()) return v128.load(at);
  if (isSigned<T>()) return i32x4.shl(v128.load16x4_u(at), 16);
  return f16ToF32(v128.load16x4_s(at));
}

/** One element as f32. */
// @ts-ignore: decorator
@inline
export function load1<T>(at: usize): f32 {
  if (isFloat<T>()) return load<f32>(at);
  if (isSigned<T>()) return reinterpret<f32>(load<u16>(at) << 16);
  return f32x4.extract_lane(f16ToF32(i32x4.splat(load<i16>(at))), 0);
}

/** Stores f32x4 as four consecutive elements. */
// @ts-ignore: decorator
@inline
export function store4<T>(at: usize, value: v128): void {
  if (isFloat<T>()) v128.store(at, value);
  else {
    const bits = isSigned<T>() ? f32ToBf16(value) : f32ToF16(value);
    v128.store64_lane(at, i16x8.narrow_i32x4_u(bits, bits), 0);
  }
}

/** Stores one f32 as an element. */
// @ts-ignore: decorator
@inline
export function store1<T>(at: usize, value: f32): void {
  if (isFloat<T>()) store<f32>(at, value);
  else {
    const bits = isSigned<T>() ? f32ToBf16(f32x4.splat(value)) : f32ToF16(f32x4.splat(value));
    store<u16>(at, <u16>i32x4.extract_lane(bits, 0));
  }
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
  const placed = v128.and(i32x4.dot_i16x8_s(bits, i32x4.splat(0x2000)), i32x4.splat(0x8fffe000));
  return f32x4.mul(placed, f32x4.splat(reinterpret<f32>(0x77800000)));
}

/** f32 as binary16 patterns in the low halves. */
// @ts-ignore: decorator
@inline
function f32ToF16(value: v128): v128 {
  const magnitude = v128.and(value, i32x4.splat(0x7fffffff));
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
  const rounded = i32x4.add(i32x4.add(magnitude, i32x4.splat(0xfff)), odd);
  const normal = i32x4.shr_u(i32x4.sub(rounded, i32x4.splat(0x38000000)), 13);
  // Adding 0.5 leaves the rounded multiple of 2^-24 in the low bits of the sum.
  const subnormal = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  let result = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(0x38800000)));
  result = v128.bitselect(i32x4.splat(0x7c00), result, i32x4.ge_s(magnitude, i32x4.splat(0x477ff000)));
  result = v128.bitselect(i32x4.splat(0x7e00), result, i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)));
  return v128.or(result, v128.and(i32x4.shr_u(value, 16), i32x4.splat(0x8000)));
}

/** f32 as bfloat16 patterns in the low halves. */
// @ts-ignore: decorator
@inline
function f32ToBf16(value: v128): v128 {
  const odd = v128.and(i32x4.shr_u(value, 16), i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(value, i32x4.splat(0x7fff)), odd), 16);
  const sign = v128.and(i32x4.shr_u(value, 16), i32x4.splat(0x8000));
  const nan = i32x4.gt_s(v128.and(value, i32x4.splat(0x7fffffff)), i32x4.splat(0x7f800000));
  return v128.bitselect(v128.or(sign, i32x4.splat(0x7fc0)), rounded, nan);
}
