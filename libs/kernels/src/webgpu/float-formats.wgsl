// Conversions between bit patterns in integer arithmetic: WGSL promises neither the rounding of pack2x16float nor that
// subnormals, infinities and NaNs survive float operations.

// Nearest binary16 of the f32 with these bits, ties to even. Without branches: threads of a subgroup differ.
fn f16_of_f32_bits(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  let normal = (magnitude + 0xfffu + ((magnitude >> 13u) & 1u) - 0x38000000u) >> 13u;
  let fraction = (magnitude & 0x7fffffu) | 0x800000u;
  let shift = min(126u - (magnitude >> 23u), 31u);
  let subnormal = (fraction + (1u << (shift - 1u)) - 1u + ((fraction >> shift) & 1u)) >> shift;
  let finite = select(normal, subnormal, magnitude < 0x38800000u);
  let large = select(0x7c00u, 0x7e00u, magnitude > 0x7f800000u);
  return ((bits >> 16u) & 0x8000u) | select(finite, large, magnitude >= 0x477ff000u);
}

// Nearest bfloat16 of the f32 with these bits, ties to even.
fn bf16_of_f32_bits(bits: u32) -> u32 {
  let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  return select(rounded, ((bits >> 16u) & 0x8000u) | 0x7fc0u, (bits & 0x7fffffffu) > 0x7f800000u);
}

// Bits of the f32 that equals a binary16.
fn f32_bits_of_f16(half: u32) -> u32 {
  let sign = (half & 0x8000u) << 16u;
  let exponent = (half >> 10u) & 0x1fu;
  let fraction = half & 0x3ffu;
  if (exponent == 0x1fu) { return sign | 0x7f800000u | (fraction << 13u); }
  if (exponent != 0u) { return sign | ((exponent + 112u) << 23u) | (fraction << 13u); }
  if (fraction == 0u) { return sign; }
  let lead = firstLeadingBit(fraction);
  return sign | ((lead + 103u) << 23u) | ((fraction << (23u - lead)) & 0x7fffffu);
}

fn f32_bits_of_bf16(half: u32) -> u32 {
  return half << 16u;
}

// True unless the f32 with these bits is NaN or an infinity.
fn is_finite_bits(bits: u32) -> bool {
  return (bits & 0x7f800000u) != 0x7f800000u;
}

const NEGATIVE_INFINITY_BITS = 0xff800000u;
