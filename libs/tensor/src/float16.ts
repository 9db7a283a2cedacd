const scratch = new DataView(new ArrayBuffer(4));

function bitsOfFloat32(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

function float32OfBits(bits: number): number {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}

/** The number that the `bits` of an IEEE 754 binary16 stand for. */
export function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * The binary16 bit pattern nearest to `value`, ties to even, after rounding `value` to f32 (as every kernel does).
 * Values beyond 65504 + half a unit become infinity; NaN becomes the quiet NaN 0x7e00 with the sign kept.
 */
export function numberToFloat16(value: number): number {
  const bits = bitsOfFloat32(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal result: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits of the sum.
    return sign | (bitsOfFloat32(Math.fround(float32OfBits(magnitude) + 0.5)) - 0x3f000000);
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

/** The number that the `bits` of a bfloat16 stand for. */
export function bfloat16ToNumber(bits: number): number {
  return float32OfBits((bits << 16) >>> 0);
}

/** The bfloat16 bit pattern nearest to `value`, ties to even, after rounding to f32. NaN becomes a quiet NaN. */
export function numberToBfloat16(value: number): number {
  const bits = bitsOfFloat32(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) & 0x8000) | 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}
