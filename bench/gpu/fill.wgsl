// Fills, counts and streams words. Grid: THREADS threads per workgroup, each walks the buffer with the grid's stride.

struct Params {
  first: u32,
  words: u32,
  value: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

fn hash(index: u32) -> u32 {
  var h = index * 0x9e3779b1u;
  h = (h ^ (h >> 16u)) * 0x85ebca6bu;
  h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
  return h ^ (h >> 16u);
}

fn random_word(index: u32) -> u32 {
  let bits = hash(index + params.value);
  if (ELEMENT_BITS == 32u) { return bitcast<u32>((f32(bits >> 8u) / 8388608.0 - 1.0) * params.scale); }
  let halves = vec2u(bits & 0xffffu, bits >> 16u);
  if (IS_F16) { return pack2x16float((vec2f(halves & vec2u(0x7ffu)) / 1024.0 - 1.0) * params.scale); }
  let words = bitcast<vec2u>((vec2f(halves & vec2u(0xffu)) / 128.0 - 1.0) * params.scale);
  return (words.x >> 16u) | (words.y & 0xffff0000u);
}

@compute @workgroup_size(THREADS)
fn fill(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  for (var i = id.x; i < params.words; i += grid.x * THREADS) {
    if (IS_RANDOM) { data[params.first + i] = random_word(i); } else { data[params.first + i] = params.value; }
  }
}
