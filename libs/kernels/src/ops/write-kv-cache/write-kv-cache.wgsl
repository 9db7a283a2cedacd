// Scatters rows of new keys (or values) into a paged cache.
//
// Grid: one thread per unit of the rows [T, Hkv, D]; a unit is 4 elements, or 1 where rows are not aligned.
// Ownership: a thread owns its unit of the cache; single 16-bit elements are stored by atomics that leave the other
// half of the word alone.
// Memory traffic: every row that is stored here once in and once out, the slot mapping once in.
// Numerical contract: bit for bit when the dtypes agree, else rounded to nearest, ties to even, in integers.
//
// Before this text come: THREADS; load_rows, store_cache (in units), converted.

struct Params {
  units: u32,
  workgroups: u32,
  heads: u32,
  row_units: u32,
  block_size: u32,
  rows_first: u32,
  cache_first: u32,
  block_stride: u32,
  slot_stride: u32,
  head_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;

const NOT_STORED_HERE = 0xffffffffu;

@compute @workgroup_size(THREADS)
fn write_kv_cache(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.x + workgroup.y * grid.x;
  let unit = index * THREADS + thread;
  if (index >= params.workgroups || unit >= params.units) { return; }
  let column = unit % params.row_units;
  let head = (unit / params.row_units) % params.heads;
  let slot = slots[unit / (params.row_units * params.heads)];
  if (slot == NOT_STORED_HERE) { return; }
  let row = (slot / params.block_size) * params.block_stride
    + (slot % params.block_size) * params.slot_stride
    + head * params.head_stride;
  store_cache(params.cache_first + row + column, converted(load_rows(params.rows_first + unit)));
}
