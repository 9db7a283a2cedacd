// Keeps the device busy for a while, without touching memory.

struct Params {
  steps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> target_data: array<f32>;

@compute @workgroup_size(256)
fn spin(@builtin(global_invocation_id) id: vec3u) {
  var value = f32(id.x);
  for (var step = 0u; step < params.steps; step++) { value = fma(value, 0.999, 1.0); }
  if (value == -1.0) { target_data[0] = value; }
}
