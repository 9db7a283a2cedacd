// The device's own speed: copies, or only reads, LOADS vectors of 16 bytes per thread and step.

struct Params {
  steps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> target_data: array<vec4u>;

@compute @workgroup_size(THREADS)
fn stream_copy(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let first = (workgroup.x + workgroup.y * grid.x) * THREADS * LOADS + thread;
  if (params.steps == 0u) { return; }
  var held: array<vec4u, LOADS>;
  for (var i = 0u; i < LOADS; i++) { held[i] = source[first + i * THREADS]; }
  for (var i = 0u; i < LOADS; i++) { target_data[first + i * THREADS] = held[i]; }
}

@compute @workgroup_size(THREADS)
fn stream_read(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let first = (workgroup.x + workgroup.y * grid.x) * THREADS * LOADS * params.steps + thread;
  var mixed = vec4u();
  for (var step = 0u; step < params.steps; step++) {
    for (var i = 0u; i < LOADS; i++) { mixed ^= source[first + (step * LOADS + i) * THREADS]; }
  }
  if (mixed.x == 1u && mixed.y == 2u && mixed.z == 3u && mixed.w == 4u) { target_data[0] = mixed; }
}
