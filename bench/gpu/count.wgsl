// Counts the words of a buffer that have a value.

struct Params {
  first: u32,
  words: u32,
  value: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> data: array<u32>;
@group(0) @binding(2) var<storage, read_write> count: atomic<u32>;

@compute @workgroup_size(THREADS)
fn count_words(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  var found = 0u;
  for (var i = id.x; i < params.words; i += grid.x * THREADS) {
    if (data[params.first + i] == params.value) { found++; }
  }
  if (found > 0u) { atomicAdd(&count, found); }
}
