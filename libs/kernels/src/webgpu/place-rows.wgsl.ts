export const PLACE_ROWS_WGSL = /* wgsl */ `
// Copies rows to where they lie among others: row r of 'from' goes to to_first + r * to_stride. Bits are moved, never
// interpreted.
//
// Grid: one workgroup for LOADS * THREADS consecutive units of all rows.
// Ownership: a thread owns LOADS units of the rows: 16 bytes, a word, or a smaller element stored by atomics.
// Memory traffic: every unit once in and once out.
//
// Before this text come: THREADS, LOADS; Unit, load_from, store_to (in units). Loops marked 'unroll' are written out.

struct Params {
  workgroups: u32,
  // Of all rows.
  units: u32,
  // Of one row.
  row_units: u32,
  from_first: u32,
  from_stride: u32,
  to_first: u32,
  to_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(THREADS)
fn place_rows(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.x + workgroup.y * grid.x;
  if (index >= params.workgroups) { return; }
  let first = index * LOADS * THREADS + thread;
  var units: array<Unit, LOADS>;
  for (var i = 0u; i < LOADS; i++) { // unroll
    let unit = first + i * THREADS;
    if (unit < params.units) {
      let row = unit / params.row_units;
      units[i] = load_from(params.from_first + row * params.from_stride + unit % params.row_units);
    }
  }
  for (var i = 0u; i < LOADS; i++) { // unroll
    let unit = first + i * THREADS;
    if (unit < params.units) {
      let row = unit / params.row_units;
      store_to(params.to_first + row * params.to_stride + unit % params.row_units, units[i]);
    }
  }
}
`;
