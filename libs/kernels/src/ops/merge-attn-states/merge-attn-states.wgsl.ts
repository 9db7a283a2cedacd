export const MERGE_ATTN_STATES_WGSL = /* wgsl */ `
// Merges STATES partial outputs by their LSEs: out = sum_i base^(lse_i - lse) * outs_i; PARTS such merges, whose sizes
// and strides are the same.
//
// Grid: one workgroup per ROWS consecutive (t, h) rows of a part, the parts one after another.
// Ownership: all threads fetch their first LOADS units of every state; thread r computes the weights of row r
// meanwhile; then all threads fold and store what they fetched, and stream what is left.
// Memory traffic: every state and LSE once in, out (and lse) once out.
// Numerical contract: f32, states folded in the order given, weights base^(lse_i - m) / sum_j base^(lse_j - m) with m
// the largest finite LSE. LSEs are tested by bit patterns: WGSL may assume that floats are finite. PROPAGATE: only a
// state whose LSE is -inf is not added, and a NaN or +inf LSE makes its row NaN. Else NaN and +inf count as -inf, and a
// state of weight 0 is not added at all.
//
// GAPS: the rows of a token lie together, and between those of one token and of the next are others: outs_gap units, and
// lses_gap LSEs. Results have no gaps.
//
// Before this text come: THREADS, ROWS, ROW_UNITS (units per row), STATES, LOADS (units that a thread has in flight),
// FETCHED (LOADS * STATES), BASE_2, PROPAGATE, GAPS, PARTS; Unit, Fetched, decoded, and by the part, in units,
// fetch_outs_of, load_lses_of, store_out_of, store_lse_of. Loops marked 'unroll' are written out.

// Where what a part merges lies, and where it goes.
struct Part {
  outs_first: u32,
  lses_first: u32,
  out_first: u32,
  lse_first: u32,
}

// Of a part, but for where it lies. Workgroups of a part.
struct Params {
  rows: u32,
  workgroups: u32,
  outs_stride: u32,
  lses_stride: u32,
  heads: u32,
  outs_gap: u32,
  lses_gap: u32,
  unused: u32,
  PARTS_OF_PARAMS
}

@group(0) @binding(0) var<uniform> params: Params;

// What this workgroup merges.
var<private> which: u32;
var<private> part: Part;

fn part_of(part: u32) -> Part { CHOSEN_PART }

// In the place of weights, which are from 0 to 1: not added; and, for a row's first state, a row of NaNs.
const NONE = -1.0;
const POISON = -2.0;

var<workgroup> weights: array<f32, ROWS * STATES>;

fn power(exponent: f32) -> f32 {
  if (BASE_2) { return exp2(exponent); }
  return exp(exponent);
}

fn logarithm(value: f32) -> f32 {
  if (BASE_2) { return log2(value); }
  return log(value);
}

// Where unit 'unit' of the rows from row 'first' on lies in a state.
fn unit_of(first: u32, unit: u32) -> u32 {
  let at = part.outs_first + first * ROW_UNITS + unit;
  if (!GAPS) { return at; }
  return at + (first + unit / max(ROW_UNITS, 1u)) / params.heads * params.outs_gap;
}

fn lse_bits(state: u32, row: u32) -> u32 {
  let at = part.lses_first + state * params.lses_stride + row;
  if (!GAPS) { return load_lses_of(which, at); }
  return load_lses_of(which, at + row / params.heads * params.lses_gap);
}

// Writes the weights of row 'r' of the workgroup, and the row's LSE.
fn weigh_row(r: u32, row: u32) {
  var maximum = 0.0;
  var any = false;
  var poisoned = false;
  for (var state = 0u; state < STATES; state++) {
    let bits = lse_bits(state, row);
    if (is_finite_bits(bits)) {
      let value = bitcast<f32>(bits);
      maximum = select(value, max(maximum, value), any);
      any = true;
    } else if (bits != NEGATIVE_INFINITY_BITS) {
      poisoned = PROPAGATE;
    }
  }
  var sum = 0.0;
  for (var state = 0u; state < STATES; state++) {
    let bits = lse_bits(state, row);
    var share = NONE;
    if (is_finite_bits(bits)) {
      share = power(bitcast<f32>(bits) - maximum);
      sum += share;
      if (!PROPAGATE && share == 0.0) { share = NONE; }
    }
    weights[r * STATES + state] = share;
  }
  for (var state = 0u; state < STATES; state++) {
    let share = weights[r * STATES + state];
    if (share != NONE) { weights[r * STATES + state] = share / max(sum, 1.0); }
  }
  if (poisoned) {
    weights[r * STATES] = POISON;
    store_lse_of(which, part.lse_first + row, NAN_BITS);
    return;
  }
  let merged = select(NEGATIVE_INFINITY_BITS, bitcast<u32>(maximum + logarithm(max(sum, 1.0))), any);
  store_lse_of(which, part.lse_first + row, merged);
}

@compute @workgroup_size(THREADS)
fn merge_attn_states(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let at = workgroup.x + workgroup.y * grid.x;
  if (at >= PARTS * params.workgroups) { return; }
  which = at / params.workgroups;
  part = part_of(which);
  let index = at % params.workgroups;
  let first = index * ROWS;
  let units = min(ROWS, params.rows - first) * ROW_UNITS;
  var fetched: array<Fetched, FETCHED>;
  for (var i = 0u; i < LOADS; i++) { // unroll
    let unit = i * THREADS + thread;
    if (unit < units) {
      for (var state = 0u; state < STATES; state++) { // unroll
        fetched[i * STATES + state] = fetch_outs_of(which, unit_of(first, unit) + state * params.outs_stride);
      }
    }
  }
  for (var r = thread; r < ROWS; r += THREADS) {
    if (first + r < params.rows) { weigh_row(r, first + r); }
  }
  workgroupBarrier();
  for (var start = 0u; start < units; start += LOADS * THREADS) {
    if (start > 0u) {
      for (var i = 0u; i < LOADS; i++) { // unroll
        let unit = start + i * THREADS + thread;
        if (unit < units) {
          for (var state = 0u; state < STATES; state++) { // unroll
            fetched[i * STATES + state] = fetch_outs_of(which, unit_of(first, unit) + state * params.outs_stride);
          }
        }
      }
    }
    for (var i = 0u; i < LOADS; i++) { // unroll
      let unit = start + i * THREADS + thread;
      if (unit < units) {
        let r = unit / max(ROW_UNITS, 1u);
        var sum = Unit();
        for (var state = 0u; state < STATES; state++) { // unroll
          let weight = weights[r * STATES + state];
          if (weight >= 0.0) { sum += decoded(fetched[i * STATES + state]) * weight; }
        }
        if (weights[r * STATES] == POISON) { sum = nan_unit(); }
        store_out_of(which, part.out_first + first * ROW_UNITS + unit, sum);
      }
    }
  }
}
`;
