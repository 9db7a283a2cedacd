// Elements of every dtype as vectors of four lanes: 16-bit floats widen to f32 on load and round on store. No memory of
// its own; an address is one element's or, of a vector, the first of four that follow each other.

export const F32: i32 = 0;
export const F16: i32 = 1;
export const BF16: i32 = 2;
export const I32: i32 = 3;
export const U32: i32 = 4;

/** f16 patterns in 32-bit lanes to f32. Scaling by 2^112 is exact and normalises subnormals. */
@inline export function widenF16(half: v128): v128 {
  const magnitude = v128.and(half, i32x4.splat(0x7fff));
  const scaled = f32x4.mul(i32x4.shl(magnitude, 13), f32x4.splat(reinterpret<f32>(0x77800000)));
  const special = i32x4.ge_s(magnitude, i32x4.splat(0x7c00));
  const widened = v128.or(scaled, v128.and(special, i32x4.splat(0x7f800000)));
  return v128.or(widened, i32x4.shl(v128.and(half, i32x4.splat(0x8000)), 16));
}

/** f32 lanes to f16 patterns in 32-bit lanes, to nearest, ties to even. NaN becomes quiet. */
@inline export function narrowF16(value: v128): v128 {
  const magnitude = v128.and(value, i32x4.splat(0x7fffffff));
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.sub(magnitude, i32x4.splat(0x38000000 - 0xfff)), odd), 13);
  const subnormal = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  let result = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(0x38800000)));
  result = v128.bitselect(i32x4.splat(0x7c00), result, i32x4.ge_s(magnitude, i32x4.splat(0x477ff000)));
  result = v128.bitselect(i32x4.splat(0x7e00), result, i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)));
  return v128.or(result, v128.and(i32x4.shr_u(value, 16), i32x4.splat(0x8000)));
}

/** f32 lanes to bf16 patterns in 32-bit lanes, to nearest, ties to even. NaN becomes quiet. */
@inline export function narrowBF16(value: v128): v128 {
  const odd = v128.and(i32x4.shr_u(value, 16), i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(value, i32x4.splat(0x7fff)), odd), 16);
  const nan = v128.or(v128.and(i32x4.shr_u(value, 16), i32x4.splat(0x8000)), i32x4.splat(0x7fc0));
  const magnitude = v128.and(value, i32x4.splat(0x7fffffff));
  return v128.bitselect(nan, rounded, i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)));
}

/** 16 bytes of a 32-bit or 8-bit dtype, or four 16-bit elements widened to f32. */
@inline export function loadVector(dtype: i32, address: usize): v128 {
  if (dtype == F16) return widenF16(v128.load_ext<u16>(address));
  if (dtype == BF16) return i32x4.shl(v128.load_ext<u16>(address), 16);
  return v128.load(address);
}

@inline export function storeVector(dtype: i32, address: usize, value: v128): void {
  if (dtype == F16 || dtype == BF16) {
    const narrow = dtype == F16 ? narrowF16(value) : narrowBF16(value);
    v128.store64_lane(address, i16x8.narrow_i32x4_u(narrow, narrow), 0);
  } else v128.store(address, value);
}

/** One element in lane 0. */
@inline export function loadElement(dtype: i32, address: usize): v128 {
  if (dtype == F16) return widenF16(i32x4.splat(<i32>load<u16>(address)));
  if (dtype == BF16) return i32x4.splat((<i32>load<u16>(address)) << 16);
  if (dtype == F32 || dtype == I32 || dtype == U32) return i32x4.splat(load<i32>(address));
  return i8x16.splat(load<i8>(address));
}

@inline export function storeElement(dtype: i32, address: usize, value: v128): void {
  if (dtype == F16) store<u16>(address, <u16>i32x4.extract_lane(narrowF16(value), 0));
  else if (dtype == BF16) store<u16>(address, <u16>i32x4.extract_lane(narrowBF16(value), 0));
  else if (dtype == F32 || dtype == I32 || dtype == U32) store<i32>(address, i32x4.extract_lane(value, 0));
  else store<u8>(address, i8x16.extract_lane_u(value, 0));
}
