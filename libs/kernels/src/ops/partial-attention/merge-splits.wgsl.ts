export const MERGE_SPLITS_WGSL = /* wgsl */ `
// Folds the splits that partial-attention left for every query row into out and LSE.
//
// Grid: one workgroup per row (token, query head) and COLUMNS columns.
// Ownership: thread i folds column i % COLUMNS of the workgroup's in splits i / COLUMNS, i / COLUMNS + GROUPS, ...,
// TOGETHER at a time, so that their loads do not wait for each other; then the groups are folded in order.
// Memory traffic: every split that the row's keys touch once in, out and LSE once out.
// Numerical contract: f32, in an order that depends on the row's first and last split alone.
//
// Before this text come: THREADS, VALUE_DIM, COLUMNS, COLUMN_BLOCKS (of a row), GROUPS (THREADS / COLUMNS), TOGETHER,
// SINKS (rows have sinks, in the plan as partial-attention.wgsl says).

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

// The lowest f32.
const LOWEST = -0x1.fffffep+127f;
const LN_2 = 0.6931471805599453;

var<workgroup> group_maxima: array<f32, GROUPS>;
var<workgroup> group_sums: array<f32, GROUPS>;
var<workgroup> group_values: array<f32, THREADS>;

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
  let column = (index % COLUMN_BLOCKS) * COLUMNS + thread % COLUMNS;
  let group = thread / COLUMNS;
  var maximum = LOWEST;
  var sum = 0.0;
  var folded = 0.0;
  for (var split = first + group; split < last; split += GROUPS * TOGETHER) {
    var states: array<vec2f, TOGETHER>;
    var values: array<f32, TOGETHER>;
    var largest = maximum;
    for (var i = 0u; i < TOGETHER; i++) { // unroll
      // Beyond the last split: the last again, with sum and values 0.
      let at = row * params.splits + min(split + i * GROUPS, last - 1u);
      states[i] = partial_states[at];
      values[i] = partial_sums[at * VALUE_DIM + select(column, 0u, column >= VALUE_DIM)];
    }
    for (var i = 0u; i < TOGETHER; i++) { // unroll
      largest = max(largest, states[i].x);
    }
    let rescale = exp2(maximum - largest);
    sum *= rescale;
    folded *= rescale;
    for (var i = 0u; i < TOGETHER; i++) { // unroll
      let weight = select(exp2(states[i].x - largest), 0.0, split + i * GROUPS >= last);
      sum = fma(states[i].y, weight, sum);
      folded = fma(values[i], weight, folded);
    }
    maximum = largest;
  }
  group_values[thread] = folded;
  if (thread % COLUMNS == 0u) {
    group_maxima[group] = maximum;
    group_sums[group] = sum;
  }
  workgroupBarrier();
  if (group != 0u) { return; }
  var sink = LOWEST;
  // A token that ends at -1 is padding.
  if (SINKS && end != 0xffffffffu) { sink = bitcast<f32>(plan[params.sinks_at + row % params.query_heads]); }
  maximum = max(maximum, sink);
  for (var other = 1u; other < GROUPS; other++) { maximum = max(maximum, group_maxima[other]); }
  sum = 0.0;
  if (SINKS && sink > LOWEST) { sum = exp2(sink - maximum); }
  folded = 0.0;
  for (var other = 0u; other < GROUPS; other++) {
    let weight = exp2(group_maxima[other] - maximum);
    sum = fma(group_sums[other], weight, sum);
    folded = fma(group_values[other * COLUMNS + thread], weight, folded);
  }
  if (column < VALUE_DIM) { out[params.out_first + row * VALUE_DIM + column] = select(folded / sum, 0.0, sum == 0.0); }
  if (thread == 0u && index % COLUMN_BLOCKS == 0u) {
    let natural = (maximum + log2(max(sum, 1e-30))) * LN_2;
    let bits = select(bitcast<u32>(natural), NEGATIVE_INFINITY_BITS, sum == 0.0);
    lse[params.lse_first + row] = select(NAN_BITS, bits, is_finite_bits(bitcast<u32>(sum)));
  }
}
`;
