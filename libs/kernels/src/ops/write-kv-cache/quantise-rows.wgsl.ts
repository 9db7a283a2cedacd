export const QUANTISE_ROWS_WGSL = /* wgsl */ `
// Scatters rows of new keys (or values) into a paged cache of 8-bit elements, each with a scale of its own, which is
// found here.
//
// Grid: one workgroup per row (token, KV head) of [T, Hkv, D]; a unit is four elements, or one where rows are not
// aligned.
// Ownership: thread i takes units i, i + THREADS, ... of the row; single bytes are stored by atomics that leave the
// rest of their word alone. Thread 0 stores the scale.
// Memory traffic: every row that is stored here twice in (the second time from the cache) and once out, its scale once
// out.
// Numerical contract: that of row-scales.ts, and of quantise-kv.wgsl with the inverse of the scale, rounded to nearest,
// as the factor. Scale and inverse are found in integers: WGSL does not promise how a quotient is rounded.
//
// Before this text come: THREADS (a power of two), HEADS, ROW_UNITS (units per row), BLOCK_SIZE; DIVISOR, SHIFT and
// DROP: the dtype's largest number is DIVISOR * 2^(DROP - SHIFT), and 2^SHIFT / DIVISOR lies between 1 and 2;
// load_rows, store_cache (in units), largest_of (the magnitude bits of a unit's largest finite element), packed.

struct Params {
  rows: u32,
  rows_first: u32,
  cache_first: u32,
  block_stride: u32,
  slot_stride: u32,
  head_stride: u32,
  scale_first: u32,
  scale_block_stride: u32,
  scale_slot_stride: u32,
  scale_head_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(4) var<storage, read_write> scales: array<u32>;

const NOT_STORED_HERE = 0xffffffffu;
// 2^-100.
const SMALLEST = 0x0d800000u;

var<workgroup> largest: array<u32, THREADS>;

// Bits of the f32 with these bits (finite, not negative) divided by the dtype's largest number, rounded toward 0; at
// least 2^-100.
fn scale_of(bits: u32) -> u32 {
  let exponent = bits >> 23u;
  if (exponent < 16u) { return SMALLEST; }
  let quotient = (((bits & 0x7fffffu) | 0x800000u) << SHIFT) / DIVISOR;
  let is_long = quotient >= 0x1000000u;
  let fraction = select(quotient, quotient >> 1u, is_long) & 0x7fffffu;
  return max(SMALLEST, ((exponent - select(DROP, DROP - 1u, is_long)) << 23u) | fraction);
}

// The f32 nearest to the inverse of the f32 with these bits, which is positive and, like its inverse, normal.
fn inverse_of(bits: u32) -> f32 {
  let exponent = bits >> 23u;
  let divisor = (bits & 0x7fffffu) | 0x800000u;
  if (divisor == 0x800000u) { return bitcast<f32>((254u - exponent) << 23u); }
  // 2^47 / divisor, bit by bit. It is never halfway between two integers.
  var quotient = 0u;
  var rest = 0x800000u;
  for (var bit = 0u; bit < 24u; bit++) {
    rest <<= 1u;
    let fits = rest >= divisor;
    rest -= select(0u, divisor, fits);
    quotient = (quotient << 1u) | select(0u, 1u, fits);
  }
  quotient += select(0u, 1u, 2u * rest > divisor);
  return bitcast<f32>(((253u - exponent) << 23u) | (quotient & 0x7fffffu));
}

@compute @workgroup_size(THREADS)
fn quantise_rows(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = workgroup.x + workgroup.y * grid.x;
  if (row >= params.rows) { return; }
  let slot = slots[row / HEADS];
  if (slot == NOT_STORED_HERE) { return; }
  let row_at = params.rows_first + row * ROW_UNITS;
  var most = 0u;
  for (var unit = thread; unit < ROW_UNITS; unit += THREADS) { most = max(most, largest_of(load_rows(row_at + unit))); }
  largest[thread] = most;
  workgroupBarrier();
  for (var reach = THREADS / 2u; reach > 0u; reach /= 2u) {
    if (thread < reach) { largest[thread] = max(largest[thread], largest[thread + reach]); }
    workgroupBarrier();
  }
  let scale = scale_of(largest[0]);
  let factor = inverse_of(scale);
  let block = slot / BLOCK_SIZE;
  let place = slot % BLOCK_SIZE;
  let head = row % HEADS;
  let slot_at = params.cache_first + block * params.block_stride + place * params.slot_stride;
  let cache_at = slot_at + head * params.head_stride;
  for (var unit = thread; unit < ROW_UNITS; unit += THREADS) {
    store_cache(cache_at + unit, packed(load_rows(row_at + unit), factor));
  }
  if (thread == 0u) {
    scales[params.scale_first + block * params.scale_block_stride + place * params.scale_slot_stride
      + head * params.scale_head_stride] = scale;
  }
}
`;
