// Folds the splits that partial-attention left for every query row into out and LSE.
//
// Grid: one workgroup per row (token, query head).
// Ownership: thread i owns elements i, i + THREADS, ... of the row.
// Memory traffic: every split that the row's keys touch once in, out and LSE once out.
// Numerical contract: f32, splits folded in order.
//
// Before this text come: THREADS, VALUE_DIM.

struct Params {
  workgroups: u32,
  splits: u32,
  split_keys: u32,
  query_heads: u32,
  tokens_at: u32,
  out_first: u32,
  lse_first: u32,
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

@compute @workgroup_size(THREADS)
fn merge_splits(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = workgroup.x + workgroup.y * grid.x;
  if (row >= params.workgroups) { return; }
  let token = params.tokens_at + (row / params.query_heads) * 3u;
  let start = plan[token + 1u];
  let end = plan[token + 2u];
  let first = start / params.split_keys;
  let last = select(first, (end + params.split_keys - 1u) / params.split_keys, end > start);
  var maximum = LOWEST;
  for (var split = first; split < last; split++) {
    maximum = max(maximum, partial_states[row * params.splits + split].x);
  }
  var sum = 0.0;
  for (var split = first; split < last; split++) {
    let state = partial_states[row * params.splits + split];
    sum += state.y * exp2(state.x - maximum);
  }
  for (var column = thread; column < VALUE_DIM; column += THREADS) {
    var folded = 0.0;
    for (var split = first; split < last; split++) {
      let at = row * params.splits + split;
      folded += partial_sums[at * VALUE_DIM + column] * exp2(partial_states[at].x - maximum);
    }
    out[params.out_first + row * VALUE_DIM + column] = select(folded / sum, 0.0, sum == 0.0);
  }
  if (thread == 0u) {
    let natural = (maximum + log2(max(sum, 1e-30))) * LN_2;
    lse[params.lse_first + row] = select(bitcast<u32>(natural), NEGATIVE_INFINITY_BITS, sum == 0.0);
  }
}
