const scratch = new DataView(new ArrayBuffer(4));

/**
 * The number that the `bits` of an 8-bit e4m3 (OCP "e4m3fn") stand for: bias 7, no infinities, NaN is 0x7f and 0xff.
 */
export function float8ToNumber(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >>> 3) & 0xf;
  const fraction = bits & 7;
  if ((bits & 0x7f) === 0x7f) return Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -9 : sign * (1 + fraction / 8) * 2 ** (exponent - 7);
}

/**
 * The e4m3 pattern nearest to `value`, ties to even, after rounding `value` to f32. Saturating: what lies beyond 448
 * becomes 448 with its sign. NaN and the infinities, which e4m3 has not, become NaN with their sign: they do not turn
 * into numbers.
 */
export function numberToFloat8(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 24) & 0x80;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x7f800000) return sign | 0x7f;
  const held = Math.min(magnitude, 0x43e00000);
  if (held >= 0x3c800000) return sign | ((held + 0x7ffff + ((held >>> 20) & 1) - 0x3c000000) >>> 20);
  // Subnormal result: adding 2^14, whose last place is 2^-9, rounds to a multiple of 2^-9.
  scratch.setUint32(0, held);
  scratch.setFloat32(0, scratch.getFloat32(0) + 16384);
  return sign | (scratch.getUint32(0) - 0x46800000);
}
