export const QUANTISE_KV_WGSL = /* wgsl */ `
// Scatters rows of new keys (or values) into a paged cache of 8-bit elements.
//
// Grid: one workgroup per THREADS units of the rows [T, Hkv, D]; a unit is four elements, or one where rows are not
// aligned.
// Ownership: a thread owns one unit of the cache: a word, or a byte stored by atomics that leave the rest of its word
// alone.
// Memory traffic: every row that is stored here once in and once out, the slot mapping once in.
// Numerical contract: element times factor in f32, rounded to nearest, ties to even, saturating; in e4m3 what is not
// finite is NaN.
//
// Before this text come: THREADS, HEADS, ROW_UNITS (units per head), BLOCK_SIZE; load_rows, store_cache (in units),
// packed.

struct Params {
  units: u32,
  workgroups: u32,
  rows_first: u32,
  cache_first: u32,
  block_stride: u32,
  slot_stride: u32,
  head_stride: u32,
  tokens: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// The slot of each token, then the bits of each head's factor.
@group(0) @binding(1) var<storage, read> words: array<u32>;

const NOT_STORED_HERE = 0xffffffffu;

@compute @workgroup_size(THREADS)
fn quantise_kv(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.x + workgroup.y * grid.x;
  if (index >= params.workgroups) { return; }
  let unit = index * THREADS + thread;
  if (unit >= params.units) { return; }
  let slot = words[unit / (ROW_UNITS * HEADS)];
  if (slot == NOT_STORED_HERE) { return; }
  let head = (unit / ROW_UNITS) % HEADS;
  let factor = bitcast<f32>(words[params.tokens + head]);
  let slot_at = (slot / BLOCK_SIZE) * params.block_stride + (slot % BLOCK_SIZE) * params.slot_stride;
  let row = slot_at + head * params.head_stride;
  store_cache(params.cache_first + row + unit % ROW_UNITS, packed(load_rows(params.rows_first + unit), factor));
}
`;
