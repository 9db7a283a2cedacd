// RMS normalisation: y[t, i] = x[t, i] / sqrt(mean over i of x[t, i]^2 + eps) * weight[i].
//
// Grid: none, one call normalises every token. Memory traffic: x twice (the second time from the L1 cache), y once.
// Numerical contract: squares are summed as in linear.as.ts (four lanes, then the tail); y may be x.

/** x, y [tokens, dim] f32, weight [dim] f32, all contiguous. */
export function rmsNorm(x: usize, weight: usize, y: usize, tokens: i32, dim: i32, eps: f32): void {
  const bytes = <usize>dim << 2;
  const body = bytes & ~15;
  for (let t: i32 = 0; t < tokens; t++) {
    let acc = f32x4.splat(0);
    for (let k: usize = 0; k < body; k += 16) {
      const v = v128.load(x + k);
      acc = f32x4.add(acc, f32x4.mul(v, v));
    }
    let sum =
      f32x4.extract_lane(acc, 0) +
      f32x4.extract_lane(acc, 1) +
      (f32x4.extract_lane(acc, 2) + f32x4.extract_lane(acc, 3));
    for (let k = body; k < bytes; k += 4) {
      const v = load<f32>(x + k);
      sum += v * v;
    }
    const scale: f32 = <f32>1 / sqrt<f32>(sum / <f32>dim + eps);
    const scales = f32x4.splat(scale);
    for (let k: usize = 0; k < body; k += 16) {
      v128.store(y + k, f32x4.mul(f32x4.mul(v128.load(x + k), scales), v128.load(weight + k)));
    }
    for (let k = body; k < bytes; k += 4) store<f32>(y + k, load<f32>(x + k) * scale * load<f32>(weight + k));
    x += bytes;
    y += bytes;
  }
}
