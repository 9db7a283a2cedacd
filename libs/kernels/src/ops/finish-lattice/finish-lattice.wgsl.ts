export const FINISH_LATTICE_WGSL = /* wgsl */ `
// Outputs and LSEs of the sums of world-invariant attention.
//
// Grid: one workgroup per row (token, head).
// Ownership: thread i makes columns i, i + THREADS, ... of the row; thread 0 its LSE.
// Memory traffic: sums and bounds once in, out and LSE once out.
// Numerical contract: f32. A sum of two words is taken without its sign, so that nothing is lost where they meet, and
// rounded; one division; a power of two. The same words give the same bits.
//
// Before this text come: THREADS, VALUE_DIM; as code: store_out.

struct Params {
  workgroups: u32,
  bounds_first: u32,
  // Elements from one of the three bounds of a row to the next.
  bounds_stride: u32,
  sums_first: u32,
  out_first: u32,
  lse_first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [3, T, H]
@group(0) @binding(1) var<storage, read> bounds: array<u32>;
// [T, H, Dv + 1, 2]
@group(0) @binding(2) var<storage, read> sums: array<u32>;
@group(0) @binding(4) var<storage, read_write> lse: array<u32>;

const LN_2 = 0.6931471805599453;
const COLUMNS = VALUE_DIM + 1u;

// The integer of a column, over 2^26, from words that may be sums of several.
fn sum_of(at: u32) -> f32 {
  var high = bitcast<i32>(sums[at + 1u]) + i32(sums[at] >> 26u);
  var low = sums[at] & 0x3ffffffu;
  let negative = high < 0;
  if (negative) {
    high = -high - select(1, 0, low == 0u);
    low = (0x4000000u - low) & 0x3ffffffu;
  }
  let size = f32(high) + f32(low) * 0x1p-26;
  return select(size, -size, negative);
}

@compute @workgroup_size(THREADS)
fn finish_lattice(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = workgroup.x + workgroup.y * grid.x;
  if (row >= params.workgroups) { return; }
  let largest = bounds[params.bounds_first + row];
  let weighted = bounds[params.bounds_first + params.bounds_stride + row];
  let exponent = lattice_exponent(largest, weighted, bounds[params.bounds_first + 2u * params.bounds_stride + row]);
  let sums_at = params.sums_first + row * COLUMNS * 2u;
  let total = sum_of(sums_at + VALUE_DIM * 2u);
  let is_number = largest != INFINITY_BITS && !is_nan_bits(largest);
  for (var column = thread; column < VALUE_DIM; column += THREADS) {
    let at = sums_at + column * 2u;
    let ratio = sum_of(at) / select(total, 1.0, total == 0.0);
    let half = exponent / 2;
    let value = select(ratio * power_of_two(half) * power_of_two(exponent - half), 0.0, total == 0.0);
    let finite = is_number && !(is_marked(sums[at + 1u]) && total != 0.0);
    store_out(params.out_first + row * VALUE_DIM + column, select(nan(), value, finite));
  }
  if (thread == 0u) {
    let natural = (bitcast<f32>(largest) + log2(max(total, 1e-30))) * LN_2;
    let bits = select(bitcast<u32>(natural), NEGATIVE_INFINITY_BITS, total == 0.0);
    lse[params.lse_first + row] = select(NAN_BITS, bits, is_number);
  }
}
`;
