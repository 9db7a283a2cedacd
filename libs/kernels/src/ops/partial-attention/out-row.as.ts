// Finishing a row of sums.

/** out = row / sum * scale, 0 when the sum is 0. */
export function storeOut(row: usize, sum: f32, out: usize, stride: u32, dim: i32, scale: f32): void {
  let column = 0;
  if (sum == 0) {
    for (; column < dim; column++) store<f32>(out + column * stride, 0);
    return;
  }
  if (stride == 4) {
    const divisor = f32x4.splat(sum);
    const factor = f32x4.splat(scale);
    for (; column + 4 <= dim; column += 4) {
      v128.store(out + column * 4, f32x4.mul(f32x4.div(v128.load(row + column * 4), divisor), factor));
    }
  }
  for (; column < dim; column++) store<f32>(out + column * stride, load<f32>(row + column * 4) / sum * scale);
}
