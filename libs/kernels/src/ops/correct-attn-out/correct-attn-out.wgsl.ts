export const CORRECT_ATTN_OUT_WGSL = /* wgsl */ `
// Scales one rank's partial output by base^(lse_rank - lse), and writes lse, the log-sum-exp over all ranks.
//
// Grid: one workgroup per ROWS consecutive (b, h) rows.
// Ownership: all threads fetch their first LOADS units; thread r computes row r's LSE and factor meanwhile; then all
// threads scale and store what they fetched, and stream what is left.
// Memory traffic: out once in and once out, the LSEs of all ranks once in, lse once out.
// Numerical contract: f32; factor = base^(lse_rank - m) / sum_i base^(lse_i - m) with m the largest finite LSE, which
// equals base^(lse_rank - lse) without the rounding of lse. LSEs are tested by bit patterns: WGSL may assume that
// floats are finite. PROPAGATE: only an LSE of -inf is skipped, and only its row is 0; a NaN or +inf LSE makes the row
// NaN. Else NaN and +inf count as -inf, and a factor of 0 gives exactly 0.
//
// Before this text come: THREADS, ROWS, ROW_UNITS (units per row), LOADS (units that a thread has in flight), RANKS,
// BASE_2, PROPAGATE; Unit, fetch_out, decoded_out, store_corrected (in units). Loops marked 'unroll' are written out.

struct Params {
  rows: u32,
  rank: u32,
  workgroups: u32,
  out_first: u32,
  corrected_first: u32,
  lses_first: u32,
  lse_first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lses: array<u32>;
@group(0) @binding(2) var<storage, read_write> lse: array<u32>;

// In the place of factors, which are from 0 to 1.
const NONE = -1.0;
const POISON = -2.0;

var<workgroup> factors: array<f32, ROWS>;

fn power(exponent: f32) -> f32 {
  if (BASE_2) { return exp2(exponent); }
  return exp(exponent);
}

fn logarithm(value: f32) -> f32 {
  if (BASE_2) { return log2(value); }
  return log(value);
}

// Writes the row's LSE and returns its factor; NONE where the row counts as empty, which is then not read.
fn correct_row(row: u32) -> f32 {
  var maximum = 0.0;
  var any = false;
  var poisoned = false;
  for (var rank = 0u; rank < RANKS; rank++) {
    let bits = lses[params.lses_first + rank * params.rows + row];
    if (is_finite_bits(bits)) {
      let value = bitcast<f32>(bits);
      maximum = select(value, max(maximum, value), any);
      any = true;
    } else if (bits != NEGATIVE_INFINITY_BITS) {
      poisoned = PROPAGATE;
    }
  }
  var sum = 0.0;
  var own = NONE;
  for (var rank = 0u; rank < RANKS; rank++) {
    let bits = lses[params.lses_first + rank * params.rows + row];
    if (is_finite_bits(bits)) {
      let share = power(bitcast<f32>(bits) - maximum);
      sum += share;
      if (rank == params.rank) { own = share; }
    }
  }
  if (poisoned) {
    lse[params.lse_first + row] = NAN_BITS;
    return POISON;
  }
  lse[params.lse_first + row] =
    select(NEGATIVE_INFINITY_BITS, bitcast<u32>(maximum + logarithm(max(sum, 1.0))), any);
  if (own == NONE || (!PROPAGATE && own == 0.0)) { return NONE; }
  return own / max(sum, 1.0);
}

@compute @workgroup_size(THREADS)
fn correct_attn_out(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.x + workgroup.y * grid.x;
  if (index >= params.workgroups) { return; }
  let first = index * ROWS;
  let units = min(ROWS, params.rows - first) * ROW_UNITS;
  let out_at = params.out_first + first * ROW_UNITS;
  let corrected_at = params.corrected_first + first * ROW_UNITS;
  var fetched: array<Fetched_out, LOADS>;
  for (var i = 0u; i < LOADS; i++) { // unroll
    let unit = i * THREADS + thread;
    if (unit < units) { fetched[i] = fetch_out(out_at + unit); }
  }
  for (var r = thread; r < ROWS; r += THREADS) {
    if (first + r < params.rows) { factors[r] = correct_row(first + r); }
  }
  workgroupBarrier();
  for (var start = 0u; start < units; start += LOADS * THREADS) {
    if (start > 0u) {
      for (var i = 0u; i < LOADS; i++) { // unroll
        let unit = start + i * THREADS + thread;
        if (unit < units) { fetched[i] = fetch_out(out_at + unit); }
      }
    }
    for (var i = 0u; i < LOADS; i++) { // unroll
      let unit = start + i * THREADS + thread;
      if (unit < units) {
        let factor = factors[unit / max(ROW_UNITS, 1u)];
        if (factor == POISON) {
          store_corrected(corrected_at + unit, nan_unit());
        } else {
          // Not a product: 0 * NaN is NaN.
          var scaled = Unit();
          if (factor != NONE) { scaled = decoded_out(fetched[i]) * factor; }
          store_corrected(corrected_at + unit, scaled);
        }
      }
    }
  }
}
`;
