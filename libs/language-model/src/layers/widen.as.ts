// Weights on their way into memory: rows taken out of a wider matrix become contiguous f32 rows.
//
// Grid: none, one call moves a block of rows. Memory traffic: the block once in, once out.
// Numerical contract: exact.

/** rows of cols bf16, stride bytes apart -> [rows, cols] f32. */
export function widenBf16(from: usize, stride: usize, to: usize, rows: i32, cols: i32): void {
  for (let r: i32 = 0; r < rows; r++) {
    let c: i32 = 0;
    for (; c + 4 <= cols; c += 4) {
      const bits = i32x4.extend_low_i16x8_u(v128.load64_zero(from + (<usize>c << 1)));
      v128.store(to + (<usize>c << 2), i32x4.shl(bits, 16));
    }
    for (; c < cols; c++) store<u32>(to + (<usize>c << 2), <u32>load<u16>(from + (<usize>c << 1)) << 16);
    from += stride;
    to += <usize>cols << 2;
  }
}

/** rows of cols f16, stride bytes apart -> [rows, cols] f32. */
export function widenF16(from: usize, stride: usize, to: usize, rows: i32, cols: i32): void {
  for (let r: i32 = 0; r < rows; r++) {
    for (let c: i32 = 0; c < cols; c++) {
      const half = <u32>load<u16>(from + (<usize>c << 1));
      const sign = (half & 0x8000) << 16;
      const magnitude = half & 0x7fff;
      // Exponent and fraction move to their f32 places; multiplying by 2^112 rebases the exponent, subnormals included.
      let value = reinterpret<f32>(magnitude << 13) * reinterpret<f32>(0x77800000);
      if (magnitude >= 0x7c00) value = reinterpret<f32>(0x7f800000 | (magnitude << 13));
      store<u32>(to + (<usize>c << 2), reinterpret<u32>(value) | sign);
    }
    from += stride;
    to += <usize>cols << 2;
  }
}

/** rows of cols f32, stride bytes apart -> [rows, cols] f32. */
export function widenF32(from: usize, stride: usize, to: usize, rows: i32, cols: i32): void {
  const bytes = <usize>cols << 2;
  for (let r: i32 = 0; r < rows; r++) {
    memory.copy(to, from, bytes);
    from += stride;
    to += bytes;
  }
}
