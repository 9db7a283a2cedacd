// Residual addition: x += y.
//
// Grid: none. Memory traffic: x and y once in, x once out.

/** x, y: count f32 each. */
export function addInto(x: usize, y: usize, count: i32): void {
  const bytes = <usize>count << 2;
  const body = bytes & ~15;
  for (let k: usize = 0; k < body; k += 16) v128.store(x + k, f32x4.add(v128.load(x + k), v128.load(y + k)));
  for (let k = body; k < bytes; k += 4) store<f32>(x + k, load<f32>(x + k) + load<f32>(y + k));
}
