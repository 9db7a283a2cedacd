// Elements of the floating-point types that weights are stored in, as f32, exactly: f32 itself, bf16 (here i16), f16
// (here u16), and f16 of which none is NaN or infinite (here u32), which takes half of the instructions.

/** 2^112: what finite f16 whose exponent and fraction lie where those of an f32 do are to be multiplied by. */
// @ts-ignore: decorator
@inline
export const F16_REBASE: f32 = reinterpret<f32>(0x77800000);

/** The f16 with this bit pattern; NaN keeps its payload. */
// @ts-ignore: decorator
@inline
function f16ToF32(bits: u32): f32 {
  const magnitude = bits & 0x7fff;
  // Exponent and fraction move to their f32 places; multiplying by 2^112 rebases the exponent, subnormals included.
  let value = reinterpret<u32>(reinterpret<f32>(magnitude << 13) * F16_REBASE);
  if (magnitude >= 0x7c00) value |= 0x7f800000;
  return reinterpret<f32>(value | ((bits & 0x8000) << 16));
}

/** Where an f32 has the sign, exponent and fraction of an f16 that was sign-extended and shifted left by 13. */
// @ts-ignore: decorator
@inline
const F16_PLACES: i32 = 0x8fffe000;

/** Four finite f16 given as their bit patterns, sign-extended to 32 bits. */
// @ts-ignore: decorator
@inline
function finiteF16x4(bits: v128): v128 {
  // A product, not a shift: JavaScriptCore takes four instructions for a shift.
  const placed = v128.and(i32x4.mul(bits, i32x4.splat(8192)), i32x4.splat(F16_PLACES));
  return f32x4.mul(placed, f32x4.splat(F16_REBASE));
}

/** Any four f16. */
// @ts-ignore: decorator
@inline
function anyF16x4(bits: v128): v128 {
  // Infinity and NaN come out as 65536 and more: all ones belong in the exponent.
  const exponent = i32x4.splat(0x7c00);
  const isSpecial = i32x4.eq(v128.and(bits, exponent), exponent);
  return v128.or(finiteF16x4(bits), v128.and(isSpecial, i32x4.splat(0x7f800000)));
}

/** Bytes of an element: those of f32 over this number. */
// @ts-ignore: decorator
@inline
export function bytesOver<T>(f32Bytes: usize): usize {
  return isFloat<T>() ? f32Bytes : f32Bytes >> 1;
}

/** The element at an address. */
// @ts-ignore: decorator
@inline
export function load1<T>(at: usize): f32 {
  if (isFloat<T>()) return load<f32>(at);
  if (isSigned<T>()) return reinterpret<f32>(<u32>load<u16>(at) << 16);
  return f16ToF32(<u32>load<u16>(at));
}

/** The four elements from an address on. */
// @ts-ignore: decorator
@inline
export function load4<T>(at: usize): v128 {
  if (isFloat<T>()) return v128.load(at);
  if (isSigned<T>()) return i32x4.shl(v128.load16x4_u(at), 16);
  if (sizeof<T>() == 4) return finiteF16x4(v128.load16x4_s(at));
  return anyF16x4(v128.load16x4_s(at));
}

/** Whether `evens` and `odds` give elements over F16_REBASE. */
// @ts-ignore: decorator
@inline
export function isRebased<T>(): bool {
  return !isFloat<T>() && !isSigned<T>() && sizeof<T>() == 4;
}

// Constants of `evens` and `odds` are read from memory: V8 makes a vector constant anew at each use, in about four
// instructions, but keeps one that was loaded in a register. Loops twice as fast come of that.

/** Bytes of those constants. */
// @ts-ignore: decorator
@inline
export const KEY_BYTES: usize = 64;

/** Writes the constants for a type: for elements of even number, of odd number, places of finite f16, F16_REBASE. */
// @ts-ignore: decorator
@inline
export function storeKeys<T>(keys: usize): void {
  if (isSigned<T>()) {
    v128.store(keys, i8x16(-1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13));
    v128.store(keys, i32x4.splat(0xffff0000), 16);
  } else {
    const one: i16 = isRebased<T>() ? 8192 : 1;
    v128.store(keys, i32x4.splat(<i32>one));
    v128.store(keys, i32x4.splat(<i32>one << 16), 16);
  }
  v128.store(keys, i32x4.splat(F16_PLACES), 32);
  v128.store(keys, f32x4.splat(F16_REBASE), 48);
}

/** Of eight elements of 16 bits, given as their bytes, 0, 2, 4 and 6; finite f16 over F16_REBASE. */
// @ts-ignore: decorator
@inline
export function evens<T>(bytes: v128, key: v128, places: v128): v128 {
  if (isSigned<T>()) return i8x16.swizzle(bytes, key);
  return ofF16<T>(bytes, key, places);
}

/** 1, 3, 5 and 7 of them. */
// @ts-ignore: decorator
@inline
export function odds<T>(bytes: v128, key: v128, places: v128): v128 {
  if (isSigned<T>()) return v128.and(bytes, key);
  return ofF16<T>(bytes, key, places);
}

/** The f16 of each pair that the key says. */
// @ts-ignore: decorator
@inline
function ofF16<T>(bytes: v128, key: v128, places: v128): v128 {
  const bits = i32x4.dot_i16x8_s(bytes, key);
  return isRebased<T>() ? v128.and(bits, places) : anyF16x4(bits);
}
