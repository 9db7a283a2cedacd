const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Bits of a number rounded to f32, for parameters of kernels. */
export function float32Bits(value: number): number {
  float[0] = value;
  return bits[0] ?? 0;
}
