export const WRITE_KV_CACHE_WGSL = /* wgsl */ `
// Scatters rows of new keys into a paged cache, and rows of new values of the same shape into another (PAIRED).
//
// Grid: one workgroup per LOADS * THREADS units of the rows [T, Hkv, D], first all of the keys, then all of the values;
// a unit is up to 16 bytes, or one element where rows are not aligned.
// Ownership: a thread owns LOADS units of the cache; single 16-bit elements are stored by atomics that leave the other
// half of the word alone.
// Memory traffic: every row that is stored here once in and once out, the slot mapping once in.
// Numerical contract: bit for bit when the dtypes agree, else rounded to nearest, ties to even, in integers.
//
// Before this text come: THREADS, LOADS, HEADS, ROW_UNITS (units per head), BLOCK_SIZE, PAIRED; Loaded, load_rows,
// store_cache, load_other_rows, store_other_cache (in units), converted. Loops marked 'unroll' are written out.

// Where rows and their cache lie, in units.
struct Places {
  rows_first: u32,
  cache_first: u32,
  block_stride: u32,
  slot_stride: u32,
  head_stride: u32,
}

struct Params {
  units: u32,
  workgroups: u32,
  places: Places,
  other_places: Places,
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
  let at = workgroup.x + workgroup.y * grid.x;
  let is_other = PAIRED && at >= params.workgroups;
  let index = select(at, at - params.workgroups, is_other);
  if (index >= params.workgroups) { return; }
  var places = params.places;
  if (is_other) { places = params.other_places; }
  var loaded: array<Loaded, LOADS>;
  var slot_of: array<u32, LOADS>;
  for (var i = 0u; i < LOADS; i++) { // unroll
    let unit = (index * LOADS + i) * THREADS + thread;
    slot_of[i] = NOT_STORED_HERE;
    if (unit < params.units) {
      slot_of[i] = slots[unit / (ROW_UNITS * HEADS)];
      if (is_other) { loaded[i] = load_other_rows(places.rows_first + unit); }
      else { loaded[i] = load_rows(places.rows_first + unit); }
    }
  }
  for (var i = 0u; i < LOADS; i++) { // unroll
    let slot = slot_of[i];
    if (slot != NOT_STORED_HERE) {
      let unit = (index * LOADS + i) * THREADS + thread;
      let row = (slot / BLOCK_SIZE) * places.block_stride
        + (slot % BLOCK_SIZE) * places.slot_stride
        + ((unit / ROW_UNITS) % HEADS) * places.head_stride;
      let place = places.cache_first + row + unit % ROW_UNITS;
      if (is_other) { store_other_cache(place, converted(loaded[i])); }
      else { store_cache(place, converted(loaded[i])); }
    }
  }
}
`;
