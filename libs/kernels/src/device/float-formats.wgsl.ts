export const FLOAT_FORMATS_WGSL = /* wgsl */ `
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

// Whether pack2x16float rounds like f16_of_f32_bits on this device; see device/f16-packing.ts.
override PACKS_HALVES: bool = false;

// Nearest binary16 of both, ties to even, the first in the low half.
fn f16_pair(values: vec2f) -> u32 {
  if (PACKS_HALVES) { return pack2x16float(values); }
  let bits = bitcast<vec2u>(values);
  return f16_of_f32_bits(bits.x) | (f16_of_f32_bits(bits.y) << 16u);
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

fn is_nan_bits(bits: u32) -> bool {
  return (bits & 0x7fffffffu) > 0x7f800000u;
}

const NEGATIVE_INFINITY_BITS = 0xff800000u;
const NAN_BITS = 0x7fc00000u;

// WGSL has no NaN constant: its bits come from a variable.
var<private> nan_bits: u32 = NAN_BITS;

fn nan() -> f32 {
  return bitcast<f32>(nan_bits);
}

// e4m3 pattern of the f32 with these bits times 'factor', ties to even, saturating at 448; NaN where that is not
// finite.
fn f8_of_scaled(bits: u32, factor: f32) -> u32 {
  let source = bits & 0x7fffffffu;
  let sign = (bits >> 24u) & 0x80u;
  if (source >= 0x7f800000u) { return sign | 0x7fu; }
  let scaled = bitcast<u32>(bitcast<f32>(source) * factor);
  if (scaled >= 0x7f800000u) { return sign | 0x7fu; }
  let held = min(scaled, 0x43e00000u);
  let normal = (held + 0x7ffffu + ((held >> 20u) & 1u) - 0x3c000000u) >> 20u;
  let fraction = (held & 0x7fffffu) | 0x800000u;
  let shift = min(141u - (held >> 23u), 31u);
  let subnormal = (fraction + (1u << (shift - 1u)) - 1u + ((fraction >> shift) & 1u)) >> shift;
  return sign | select(normal, subnormal, held < 0x3c800000u);
}

// The f32 with these bits times 'factor' as the nearest i8, ties to even, saturating; NaN gives 0.
fn i8_of_scaled(bits: u32, factor: f32) -> u32 {
  let source = bits & 0x7fffffffu;
  if (source > 0x7f800000u) { return 0u; }
  let size = select(round(min(bitcast<f32>(source) * factor, 128.0)), 128.0, source == 0x7f800000u);
  let value = select(min(size, 127.0), -size, (bits & 0x80000000u) != 0u);
  return bitcast<u32>(i32(value)) & 0xffu;
}

// The four e4m3 numbers of a word, divided by 256: as binary16 patterns, whose exponents are biased by 8 more.
fn f8_vector(word: u32) -> vec4f {
  let even = f16_pair_of_f8(word & 0x00ff00ffu);
  let odd = f16_pair_of_f8((word >> 8u) & 0x00ff00ffu);
  return vec4f(even.x, odd.x, even.y, odd.y);
}

fn f16_pair_of_f8(bytes: u32) -> vec2f {
  let magnitudes = bytes & 0x007f007fu;
  // NaN is 0x7f: it gets the exponent of a NaN.
  let nans = (magnitudes + 0x00010001u) & 0x00800080u;
  return unpack2x16float(((bytes & 0x00800080u) << 8u) | (magnitudes << 7u) | (nans << 7u));
}

// The four i8 of a word.
fn i8_vector(word: u32) -> vec4f {
  return vec4f((vec4i(bitcast<i32>(word)) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}
`;
