export const WRITE_KV_CACHE_WGSL = /* wgsl */ `
// Scatters rows of new tokens into paged caches: PARTS kinds of rows of one shape, as keys and values, each into a cache
// of its own or heads of its own, at the same slots.
//
// Grid: one workgroup per LOADS * THREADS units of the rows [T, Hkv, D] of a part, the parts one after another; a unit
// is up to 16 bytes, or one element where rows are not aligned.
// Ownership: a thread owns LOADS units of the cache; single 16-bit elements are stored by atomics that leave the other
// half of the word alone.
// Memory traffic: every row that is stored here once in and once out, the slot mapping once in.
// Numerical contract: bit for bit when the dtypes agree, else rounded to nearest, ties to even, in integers.
//
// Before this text come: THREADS, LOADS, HEADS, ROW_UNITS (units per head), BLOCK_SIZE, PARTS; Loaded, converted, and by
// the part, in units, load_rows_of and store_cache_of. Loops marked 'unroll' are written out.

// Where rows and their cache lie, in units.
struct Places {
  rows_first: u32,
  cache_first: u32,
  block_stride: u32,
  slot_stride: u32,
  head_stride: u32,
}

// Units and workgroups are of a part.
struct Params {
  units: u32,
  workgroups: u32,
  PARTS_OF_PARAMS
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;

const NOT_STORED_HERE = 0xffffffffu;

fn places_of(part: u32) -> Places { CHOSEN_PART }

@compute @workgroup_size(THREADS)
fn write_kv_cache(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let at = workgroup.x + workgroup.y * grid.x;
  if (at >= PARTS * params.workgroups) { return; }
  let part = at / params.workgroups;
  let index = at % params.workgroups;
  let places = places_of(part);
  var loaded: array<Loaded, LOADS>;
  var slot_of: array<u32, LOADS>;
  for (var i = 0u; i < LOADS; i++) { // unroll
    let unit = (index * LOADS + i) * THREADS + thread;
    slot_of[i] = NOT_STORED_HERE;
    if (unit < params.units) {
      slot_of[i] = slots[unit / (ROW_UNITS * HEADS)];
      loaded[i] = load_rows_of(part, places.rows_first + unit);
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
      store_cache_of(part, place, converted(loaded[i]));
    }
  }
}
`;
