export const GATHER_KV_CACHE_WGSL = /* wgsl */ `
// Reads rows of a paged cache, in the order of their slots.
//
// Grid: one workgroup per THREADS units of the rows [T, Hkv, D]; a unit is 16 bytes, or less where rows are not
// aligned.
// Ownership: a thread owns one unit of the rows; units below a word are stored by atomics that leave the rest of the
// word alone.
// Memory traffic: every row once in and once out, the slots once in.
// Numerical contract: bits move as they are.
//
// Before this text come: THREADS, HEADS, ROW_UNITS (units per head), BLOCK_SIZE; load_cache, store_rows (in units).

struct Params {
  units: u32,
  workgroups: u32,
  rows_first: u32,
  cache_first: u32,
  block_stride: u32,
  slot_stride: u32,
  head_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;

@compute @workgroup_size(THREADS)
fn gather_kv_cache(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.x + workgroup.y * grid.x;
  if (index >= params.workgroups) { return; }
  let unit = index * THREADS + thread;
  if (unit >= params.units) { return; }
  let slot = slots[unit / (ROW_UNITS * HEADS)];
  let row = (slot / BLOCK_SIZE) * params.block_stride
    + (slot % BLOCK_SIZE) * params.slot_stride
    + ((unit / ROW_UNITS) % HEADS) * params.head_stride;
  store_rows(params.rows_first + unit, load_cache(params.cache_first + row + unit % ROW_UNITS));
}
`;
