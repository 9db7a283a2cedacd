// Folds the splits that partial-attention left for every query row into out and LSE.
//
// Grid: one workgroup per row (token, query head) and COLUMNS columns.
// Ownership: thread i folds column i % COLUMNS of the workgroup's in splits i / COLUMNS, i / COLUMNS + GROUPS, ...; the groups are folded in
// order.
// Memory traffic: every split that the row's keys touch once in, out and LSE once out.
// Numerical contract: f32, in an order that depends on the row's first and last split alone.
//
// Before this text come: THREADS, VALUE_DIM, COLUMNS, COLUMN_BLOCKS (of a row), GROUPS (THREADS / COLUMNS), SINKS (rows have
// sinks, in the plan as partial-attention.wgsl says).

struct Params {
  workgroups: u32,
  splits: u32,
  split_keys: u32,
  query_heads: u32,
  tokens_at: u32,
  out_first: u32,
  lse_first: u32,
  sinks_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> plan: array<u32>;
@group(0) @binding(2) var<storage, read> partial_sums: array<f32>;
// (maximum times log2(e), sum of weights) of every row and split.
@group(0) @binding(3) var<storage, read> partial_states: array<vec2f>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read_write> lse: array<u32>;

const LOWEST = -1e30;
const LN_2 = 0.6931471805599453;

var<workgroup> shared_values: array<f32, THREADS>;

// Largest of the threads' values, in all threads.
fn workgroup_maximum(value: f32, thread: u32) -> f32 {
  shared_values[thread] = value;
  workgroupBarrier();
  for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
    if (thread < half) { shared_values[thread] = max(shared_values[thread], shared_values[thread + half]); }
    workgroupBarrier();
  }
  let result = shared_values[0];
  workgroupBarrier();
  return result;
}

// Sum of the threads' values, in all threads.
fn workgroup_sum(value: f32, thread: u32) -> f32 {
  shared_values[thread] = value;
  workgroupBarrier();
  for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
    if (thread < half) { shared_values[thread] += shared_values[thread + half]; }
    workgroupBarrier();
  }
  let result = shared_values[0];
  workgroupBarrier();
  return result;
}

@compute @workgroup_size(THREADS)
fn merge_splits(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.x + workgroup.y * grid.x;
  if (index >= params.workgroups) { return; }
  let row = index / COLUMN_BLOCKS;
  let token = params.tokens_at + (row / params.query_heads) * 3u;
  let start = plan[token + 1u];
  let end = plan[token + 2u];
  let first = start / params.split_keys;
  let last = select(first, (end + params.split_keys - 1u) / params.split_keys, end > start);
  var own_maximum = LOWEST;
  for (var split = first + thread; split < last; split += THREADS) {
    own_maximum = max(own_maximum, partial_states[row * params.splits + split].x);
  }
  var sink = LOWEST;
  // A token that ends at -1 is padding.
  if (SINKS && end != 0xffffffffu) { sink = bitcast<f32>(plan[params.sinks_at + row % params.query_heads]); }
  let maximum = max(workgroup_maximum(own_maximum, thread), sink);
  var own_sum = 0.0;
  for (var split = first + thread; split < last; split += THREADS) {
    let state = partial_states[row * params.splits + split];
    own_sum += state.y * exp2(state.x - maximum);
  }
  var sum = workgroup_sum(own_sum, thread);
  if (SINKS && sink > LOWEST) { sum += exp2(sink - maximum); }
  let column = (index % COLUMN_BLOCKS) * COLUMNS + thread % COLUMNS;
  let group = thread / COLUMNS;
  var folded = 0.0;
  if (column < VALUE_DIM) {
    for (var split = first + group; split < last; split += GROUPS) {
      let at = row * params.splits + split;
      folded = fma(partial_sums[at * VALUE_DIM + column], exp2(partial_states[at].x - maximum), folded);
    }
  }
  shared_values[thread] = folded;
  workgroupBarrier();
  if (group == 0u && column < VALUE_DIM) {
    for (var other = 1u; other < GROUPS; other++) { folded += shared_values[other * COLUMNS + thread]; }
    out[params.out_first + row * VALUE_DIM + column] = select(folded / sum, 0.0, sum == 0.0);
  }
  if (thread == 0u && index % COLUMN_BLOCKS == 0u) {
    let natural = (maximum + log2(max(sum, 1e-30))) * LN_2;
    lse[params.lse_first + row] = select(bitcast<u32>(natural), NEGATIVE_INFINITY_BITS, sum == 0.0);
  }
}
