export const FOLD_SPLITS_WGSL = /* wgsl */ `
// Folds splits that partial-attention left for every query row into the row's sums, one after another in their order.
//
// Grid: one workgroup per row (token, query head).
// Ownership: thread i folds columns i, i + THREADS, ... of the row's values; all threads compute its maximum and sum of
// weights. TOGETHER splits are loaded at a time, so that their loads do not wait for each other.
// Memory traffic: every split that the row's keys touch once in; the row's sums in unless they begin here, and out
// unless they end here; where they end, out and LSE once out.
// Numerical contract: f32. Sums begin as (LOWEST, 0, 0), and each split that the row sees is folded in by the same
// operations, wherever a call or a round of splits begins or ends: a row's bits depend on its own splits alone. Splits
// that it does not see are not folded. A sink joins where the sums end.
//
// Before this text come: THREADS, VALUE_DIM, TOGETHER, SINKS (rows have sinks, in the plan as partial-attention.wgsl
// says).

struct Params {
  workgroups: u32,
  // Splits [first_split, first_split + splits) are there.
  first_split: u32,
  splits: u32,
  split_keys: u32,
  query_heads: u32,
  tokens_at: u32,
  state_first: u32,
  out_first: u32,
  lse_first: u32,
  sinks_at: u32,
  // 1: no sums come before these splits; and: none come after them.
  begins: u32,
  ends: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> plan: array<u32>;
// Read only; what lies in the same buffer is written.
@group(0) @binding(2) var<storage, read_write> partial_sums: array<f32>;
// (maximum times log2(e), sum of weights) of every row and split.
@group(0) @binding(3) var<storage, read_write> partial_states: array<vec2f>;
// Of every row: maximum times log2(e), sum of weights, weighted values.
@group(0) @binding(4) var<storage, read_write> state: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<u32>;

// The lowest f32.
const LOWEST = -0x1.fffffep+127f;
const LN_2 = 0.6931471805599453;
const STATE_WIDTH = VALUE_DIM + 2u;

@compute @workgroup_size(THREADS)
fn fold_splits(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = workgroup.x + workgroup.y * grid.x;
  if (row >= params.workgroups) { return; }
  let token = params.tokens_at + (row / params.query_heads) * 3u;
  let start = plan[token + 1u];
  let end = plan[token + 2u];
  let sees = end > start && end != 0xffffffffu;
  let low = max(params.first_split, start / params.split_keys);
  let last = (end + params.split_keys - 1u) / params.split_keys;
  let high = select(low, min(params.first_split + params.splits, last), sees);
  let state_at = params.state_first + row * STATE_WIDTH;
  let continues = params.begins == 0u;
  let ends = params.ends != 0u;
  var maximum = LOWEST;
  var sum = 0.0;
  if (continues) {
    maximum = state[state_at];
    sum = state[state_at + 1u];
  }
  var sink = LOWEST;
  // A token that ends at -1 is padding.
  if (SINKS && end != 0xffffffffu) { sink = bitcast<f32>(plan[params.sinks_at + row % params.query_heads]); }
  let maximum_before = maximum;
  let sum_before = sum;
  // Once for the LSE where there are no columns.
  for (var first_column = 0u; first_column < max(VALUE_DIM, 1u); first_column += THREADS) {
    let column = first_column + thread;
    let is_column = column < VALUE_DIM;
    maximum = maximum_before;
    sum = sum_before;
    var folded = 0.0;
    if (continues && is_column) { folded = state[state_at + 2u + column]; }
    for (var split = low; split < high; split += TOGETHER) {
      var states: array<vec2f, TOGETHER>;
      var values: array<f32, TOGETHER>;
      for (var i = 0u; i < TOGETHER; i++) { // unroll
        let at = row * params.splits + min(split + i, high - 1u) - params.first_split;
        states[i] = partial_states[at];
        values[i] = partial_sums[at * VALUE_DIM + select(0u, column, is_column)];
      }
      for (var i = 0u; i < TOGETHER; i++) { // unroll
        if (split + i < high) {
          let larger = max(maximum, states[i].x);
          let rescale = exp2(maximum - larger);
          let weight = exp2(states[i].x - larger);
          sum = fma(states[i].y, weight, sum * rescale);
          folded = fma(values[i], weight, folded * rescale);
          maximum = larger;
        }
      }
    }
    if (ends) {
      let larger = max(maximum, sink);
      let rescale = exp2(maximum - larger);
      var total = sum * rescale;
      if (SINKS && sink > LOWEST) { total += exp2(sink - larger); }
      if (is_column) {
        out[params.out_first + row * VALUE_DIM + column] = select(folded * rescale / total, 0.0, total == 0.0);
      }
      if (column == 0u) {
        let natural = (larger + log2(max(total, 1e-30))) * LN_2;
        let bits = select(bitcast<u32>(natural), NEGATIVE_INFINITY_BITS, total == 0.0);
        lse[params.lse_first + row] = select(NAN_BITS, bits, is_finite_bits(bitcast<u32>(total)));
      }
    } else if (is_column) {
      state[state_at + 2u + column] = folded;
    }
  }
  // After every thread has read them.
  storageBarrier();
  workgroupBarrier();
  if (!ends && thread == 0u) {
    state[state_at] = maximum;
    state[state_at + 1u] = sum;
  }
}
`;
