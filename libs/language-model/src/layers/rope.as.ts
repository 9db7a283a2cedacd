// Rotary position embedding, the Hugging Face Llama convention (`rotate_half`): dimension i of a head turns together
// with dimension i + half, by an angle that depends on the token's position and on i.
//
// Grid: none, one call rotates every head of every token, in place. Memory traffic: x once in, once out.

/**
 * x [tokens, heads, 2 * half] f32, rotated in place; cosines and sines [tokens, half] f32:
 * x[i], x[i + half] = x[i] cos[i] - x[i + half] sin[i], x[i + half] cos[i] + x[i] sin[i].
 */
export function rotate(x: usize, cosines: usize, sines: usize, tokens: i32, heads: i32, half: i32): void {
  const bytes = <usize>half << 2;
  const body = bytes & ~15;
  for (let t: i32 = 0; t < tokens; t++) {
    for (let h: i32 = 0; h < heads; h++) {
      const y = x + bytes;
      for (let k: usize = 0; k < body; k += 16) {
        const a = v128.load(x + k);
        const b = v128.load(y + k);
        const c = v128.load(cosines + k);
        const s = v128.load(sines + k);
        v128.store(x + k, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)));
        v128.store(y + k, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)));
      }
      for (let k = body; k < bytes; k += 4) {
        const a = load<f32>(x + k);
        const b = load<f32>(y + k);
        const c = load<f32>(cosines + k);
        const s = load<f32>(sines + k);
        store<f32>(x + k, a * c - b * s);
        store<f32>(y + k, b * c + a * s);
      }
      x = y + bytes;
    }
    cosines += bytes;
    sines += bytes;
  }
}
