// How large a row of values is: the smallest integer e, from -126 on, with |v| < 2^e for every finite element v; -inf
// where all of them are 0 or none is finite.

/** One row of unit stride, whose elements are worth `scale` each: 1 for floats. */
export function valueExponent<T>(row: usize, dim: i32, scale: f32): f32 {
  if (isFloat<T>()) return exponentOf(largest32(row, dim));
  if (sizeof<T>() == 2) return halfExponent<T>(largest16<T>(row, dim));
  return exponentOf(reinterpret<u32>(largest8<T>(row, dim) * scale));
}

/** Of the bits of a magnitude. */
// @ts-ignore: decorator
@inline
function exponentOf(bits: u32): f32 {
  if (bits == 0) return -Infinity;
  return <f32>max<i32>(-126, <i32>(bits >>> 23) - 126);
}

/** Of the bits of a magnitude in 16 bits. */
// @ts-ignore: decorator
@inline
function halfExponent<T>(bits: u32): f32 {
  if (isSigned<T>()) return exponentOf(bits << 16);
  if (bits == 0) return -Infinity;
  // A subnormal is a multiple of 2^-24.
  const exponent: i32 = bits < 0x400 ? 8 - clz<i32>(bits) : <i32>(bits >>> 10) - 14;
  return <f32>exponent;
}

/** The bits of the largest finite magnitude. */
function largest32(row: usize, dim: i32): u32 {
  let largest = i32x4.splat(0);
  let column = 0;
  for (; column + 4 <= dim; column += 4) {
    largest = i32x4.max_u(largest, i32x4.shl(v128.load(row + column * 4), 1));
  }
  largest = i32x4.max_u(largest, v128.shuffle<i32>(largest, largest, 2, 3, 0, 1));
  largest = i32x4.max_u(largest, v128.shuffle<i32>(largest, largest, 1, 0, 3, 2));
  let most: u32 = i32x4.extract_lane(largest, 0);
  for (; column < dim; column++) most = max<u32>(most, load<u32>(row + column * 4) << 1);
  most >>>= 1;
  if (most < 0x7f800000) return most;
  most = 0;
  for (column = 0; column < dim; column++) {
    const bits: u32 = load<u32>(row + column * 4) & 0x7fffffff;
    if (bits < 0x7f800000) most = max<u32>(most, bits);
  }
  return most;
}

/** The same of 16-bit floats. */
function largest16<T>(row: usize, dim: i32): u32 {
  let largest = i16x8.splat(0);
  let column = 0;
  for (; column + 8 <= dim; column += 8) {
    const patterns = v128.load(row + column * 2);
    largest = i16x8.max_u(largest, i16x8.add(patterns, patterns));
  }
  largest = i16x8.max_u(largest, v128.shuffle<i32>(largest, largest, 2, 3, 0, 1));
  largest = i16x8.max_u(largest, v128.shuffle<i32>(largest, largest, 1, 0, 3, 2));
  let most: u32 = max<u32>(i16x8.extract_lane_u(largest, 0), i16x8.extract_lane_u(largest, 1));
  for (; column < dim; column++) most = max<u32>(most, (<u32>load<u16>(row + column * 2) << 1) & 0xffff);
  most >>>= 1;
  const limit: u32 = isSigned<T>() ? 0x7f80 : 0x7c00;
  if (most < limit) return most;
  most = 0;
  for (column = 0; column < dim; column++) {
    const bits: u32 = load<u16>(row + column * 2) & 0x7fff;
    if (bits < limit) most = max<u32>(most, bits);
  }
  return most;
}

/** The largest finite magnitude of 8-bit elements. */
function largest8<T>(row: usize, dim: i32): f32 {
  let largest = i8x16.splat(0);
  let column = 0;
  for (; column + 16 <= dim; column += 16) largest = i8x16.max_u(largest, magnitude8<T>(v128.load(row + column)));
  largest = i8x16.max_u(largest, v128.shuffle<i32>(largest, largest, 2, 3, 0, 1));
  largest = i8x16.max_u(largest, v128.shuffle<i32>(largest, largest, 1, 0, 3, 2));
  let most: u32 = 0;
  for (let bits: u32 = i32x4.extract_lane(largest, 0); bits != 0; bits >>>= 8) most = max<u32>(most, bits & 0xff);
  for (; column < dim; column++) {
    most = max<u32>(most, i8x16.extract_lane_u(magnitude8<T>(i8x16.splat(load<i8>(row + column))), 0));
  }
  if (isSigned<T>()) return <f32>most;
  if (most == 0x7f) {
    most = 0;
    for (column = 0; column < dim; column++) {
      const bits: u32 = load<u8>(row + column) & 0x7f;
      if (bits < 0x7f) most = max<u32>(most, bits);
    }
  }
  return numberOfF8(most);
}

/** Magnitudes as bytes. */
// @ts-ignore: decorator
@inline
function magnitude8<T>(bytes: v128): v128 {
  return isSigned<T>() ? i8x16.abs(bytes) : v128.and(bytes, i8x16.splat(0x7f));
}

/** The number of a magnitude in e4m3 that is no NaN. */
// @ts-ignore: decorator
@inline
function numberOfF8(bits: u32): f32 {
  // Exponent and fraction in place, and the exponent's bias corrected.
  return reinterpret<f32>(bits << 20) * reinterpret<f32>(0x7b800000);
}
