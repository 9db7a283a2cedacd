// Merges STATES partial outputs by their LSEs: out = sum_i base^(lse_i - lse) * outs_i.
//
// Grid: one workgroup per ROWS consecutive (t, h) rows.
// Ownership: first thread r computes the weights of row r; then all threads stream the workgroup's units.
// Memory traffic: every state and LSE once in, out (and lse) once out.
// Numerical contract: f32, states folded in the order given, weights base^(lse_i - m) / sum_j base^(lse_j - m) with m
// the largest finite LSE. LSEs are tested by bit patterns: WGSL may assume that floats are finite. A state of weight 0
// is not added at all.
//
// Before this text come: THREADS, ROWS, ROW_UNITS (units per row), STATES, BASE_2, WRITES_LSE; Unit, load_outs,
// store_out (in units).

struct Params {
  rows: u32,
  workgroups: u32,
  outs_first: u32,
  outs_stride: u32,
  lses_first: u32,
  lses_stride: u32,
  out_first: u32,
  lse_first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lses: array<u32>;

var<workgroup> weights: array<f32, ROWS * STATES>;

fn power(exponent: f32) -> f32 {
  if (BASE_2) { return exp2(exponent); }
  return exp(exponent);
}

fn logarithm(value: f32) -> f32 {
  if (BASE_2) { return log2(value); }
  return log(value);
}

// Writes the weights of row `r` of the workgroup, and the row's LSE.
fn weigh_row(r: u32, row: u32) {
  var maximum = 0.0;
  var any = false;
  for (var state = 0u; state < STATES; state++) {
    let bits = lses[params.lses_first + state * params.lses_stride + row];
    if (is_finite_bits(bits)) {
      let value = bitcast<f32>(bits);
      maximum = select(value, max(maximum, value), any);
      any = true;
    }
  }
  var sum = 0.0;
  for (var state = 0u; state < STATES; state++) {
    let bits = lses[params.lses_first + state * params.lses_stride + row];
    var share = 0.0;
    if (is_finite_bits(bits)) { share = power(bitcast<f32>(bits) - maximum); }
    weights[r * STATES + state] = share;
    sum += share;
  }
  for (var state = 0u; state < STATES; state++) { weights[r * STATES + state] /= max(sum, 1.0); }
  write_lse(row, select(NEGATIVE_INFINITY_BITS, bitcast<u32>(maximum + logarithm(max(sum, 1.0))), any));
}

@compute @workgroup_size(THREADS)
fn merge_attn_states(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.x + workgroup.y * grid.x;
  if (index >= params.workgroups) { return; }
  let first = index * ROWS;
  for (var r = thread; r < ROWS; r += THREADS) {
    if (first + r < params.rows) { weigh_row(r, first + r); }
  }
  workgroupBarrier();
  let units = min(ROWS, params.rows - first) * ROW_UNITS;
  for (var i = thread; i < units; i += THREADS) {
    let r = i / max(ROW_UNITS, 1u);
    var sum = Unit();
    for (var state = 0u; state < STATES; state++) {
      let weight = weights[r * STATES + state];
      let value = load_outs(params.outs_first + state * params.outs_stride + first * ROW_UNITS + i);
      sum = select(sum + weight * value, sum, weight == 0.0);
    }
    store_out(params.out_first + first * ROW_UNITS + i, sum);
  }
}
