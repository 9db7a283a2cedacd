export const FOLD_LATTICE_WGSL = /* wgsl */ `
// Joins what lattice-attention.wgsl left of every split: bounds by their maxima (SUMS false), or sums as integers.
//
// Grid: one workgroup per row (token, query head) for sums; one per THREADS rows for bounds.
// Ownership: thread i joins columns i, i + THREADS, ... of a row's sums, the last of which is of the weights; or it
// joins the bounds of one row.
// Memory traffic: every split that a row sees once in; what came before in, if there was anything; the result out.
// Numerical contract: maxima and integers, in whatever order. A sum leaves with 26 bits in its low word, the rest in
// its high one. A sink is one more score without a value. A row whose bound is not finite has no sums.
//
// Before this text come: THREADS, VALUE_DIM, SUMS, SINKS (rows have sinks in the plan, as partial-attention.wgsl says).

struct Params {
  workgroups: u32,
  rows: u32,
  // Splits [first_split, first_split + splits) are there.
  first_split: u32,
  splits: u32,
  split_keys: u32,
  query_heads: u32,
  tokens_at: u32,
  sinks_at: u32,
  result_first: u32,
  score_bounds_first: u32,
  // Elements from one of the three bounds of a row to the next.
  bounds_stride: u32,
  // 1: the result is joined with what is there.
  continues: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> plan: array<u32>;
// Read only; what lies in the same buffer is written.
@group(0) @binding(2) var<storage, read_write> splits: array<u32>;
// Bounds [3, T, Hq], or sums [T, Hq, Dv + 1, 2].
@group(0) @binding(3) var<storage, read_write> result: array<u32>;
// Of all ranks, for sums.
@group(0) @binding(4) var<storage, read> bounds: array<u32>;

// The lowest f32.
const LOWEST = -0x1.fffffep+127f;
const COLUMNS = VALUE_DIM + 1u;

// Splits [x, y) that a row sees, of those that are there.
fn seen_splits(row: u32) -> vec2u {
  let token = params.tokens_at + (row / params.query_heads) * 3u;
  let start = plan[token + 1u];
  let end = plan[token + 2u];
  let sees = end > start && end != 0xffffffffu;
  let low = max(params.first_split, start / params.split_keys);
  let last = (end + params.split_keys - 1u) / params.split_keys;
  return vec2u(low, select(low, min(params.first_split + params.splits, last), sees)) - params.first_split;
}

// The sink of a row; LOWEST if there is none. A token that ends at -1 is padding.
fn sink_of(row: u32) -> f32 {
  if (!SINKS || plan[params.tokens_at + (row / params.query_heads) * 3u + 2u] == 0xffffffffu) { return LOWEST; }
  return bitcast<f32>(plan[params.sinks_at + row % params.query_heads]);
}

// Bits of the larger of two numbers, none of them NaN; the infinities are numbers here.
fn larger(known: u32, other: u32) -> u32 {
  return select(known, other, ordered(other) > ordered(known));
}

// Bits of floats in the order of the floats.
fn ordered(bits: u32) -> u32 {
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn join_bounds(row: u32) {
  let seen = seen_splits(row);
  let sink = sink_of(row);
  for (var bound = 0u; bound < 3u; bound++) {
    let result_at = params.result_first + bound * params.bounds_stride + row;
    var largest = NEGATIVE_INFINITY_BITS;
    if (params.continues != 0u) { largest = result[result_at]; }
    if (bound == 0u && sink > LOWEST) { largest = larger(largest, bitcast<u32>(sink)); }
    for (var split = seen.x; split < seen.y; split++) {
      largest = larger(largest, splits[(row * params.splits + split) * 3u + bound]);
    }
    result[result_at] = largest;
  }
}

fn join_sums(row: u32, column: u32) {
  let result_at = params.result_first + (row * COLUMNS + column) * 2u;
  var low = 0u;
  var high = 0u;
  if (params.continues != 0u) {
    low = result[result_at];
    high = result[result_at + 1u];
  }
  var finite = !is_marked(high);
  let bound = bounds[params.score_bounds_first + row];
  if (is_finite_bits(bound)) {
    let sink = sink_of(row);
    if (sink > LOWEST && column == VALUE_DIM && params.continues == 0u) {
      low = u32(round(exp2(min(sink - bitcast<f32>(bound), 5.0)) * 0x1p+26));
    }
    let seen = seen_splits(row);
    for (var split = seen.x; split < seen.y; split++) {
      let at = ((row * params.splits + split) * COLUMNS + column) * 2u;
      finite = finite & !is_marked(splits[at + 1u]);
      low += splits[at];
      high += splits[at + 1u] + (low >> 26u);
      low &= 0x3ffffffu;
    }
    high += low >> 26u;
    low &= 0x3ffffffu;
  }
  result[result_at] = select(0u, low, finite);
  result[result_at + 1u] = select(NOT_FINITE, high, finite);
}

@compute @workgroup_size(THREADS)
fn fold_lattice(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.x + workgroup.y * grid.x;
  if (index >= params.workgroups) { return; }
  if (SUMS) {
    for (var column = thread; column < COLUMNS; column += THREADS) { join_sums(index, column); }
    return;
  }
  let row = index * THREADS + thread;
  if (row < params.rows) { join_bounds(row); }
}
`;
