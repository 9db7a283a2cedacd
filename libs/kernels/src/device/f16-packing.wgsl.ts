export const F16_PACKING_WGSL = /* wgsl */ `
// Counts the floats that pack2x16float rounds unlike f16_of_f32_bits (see float-formats.wgsl, which comes before this
// text).
//
// Grid: thread i takes the finite binary16 with bits i, its midpoint with the next one, and the floats on both sides of
// that, each with both signs; thread 0 also infinity, a float far beyond, and NaN, whose payload does not count.

@group(0) @binding(0) var<storage, read_write> differing: atomic<u32>;

fn differs(bits: u32) -> bool {
  return (pack2x16float(vec2f(bitcast<f32>(bits), 0.0)) & 0xffffu) != f16_of_f32_bits(bits);
}

@compute @workgroup_size(256)
fn count_differing(@builtin(global_invocation_id) id: vec3u) {
  let half = id.x;
  if (half >= 0x7c00u) { return; }
  let value = f32_bits_of_f16(half);
  let next = select(f32_bits_of_f16(half + 1u), 0x47800000u, half == 0x7bffu);
  let middle = bitcast<u32>(0.5 * (bitcast<f32>(value) + bitcast<f32>(next)));
  var found = 0u;
  for (var sign = 0u; sign < 2u; sign++) {
    let top = sign << 31u;
    found += u32(differs(top | value)) + u32(differs(top | middle));
    found += u32(differs(top | (middle - 1u))) + u32(differs(top | (middle + 1u)));
    if (half == 0u) {
      found += u32(differs(top | 0x7f800000u)) + u32(differs(top | 0x71000000u));
      let nan = bitcast<f32>(top | 0x7fc00000u | half);
      found += u32((pack2x16float(vec2f(nan, 0.0)) & 0x7fffu) <= 0x7c00u);
    }
  }
  if (found > 0u) { atomicAdd(&differing, found); }
}
`;
