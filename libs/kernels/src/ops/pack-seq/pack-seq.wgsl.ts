export const PACK_SEQ_WGSL = /* wgsl */ `
// Packs sequences that lie one after another into a padded batch. Bits are moved, never interpreted.
//
// Grid: one workgroup per sequence and LOADS * THREADS units of its rows (padding included), which lie one after
// another on both sides.
// Ownership: a thread owns LOADS whole units of out: 16 bytes, a word, or a smaller element stored by atomics.
// Memory traffic: every unit of out once out, the units that are no padding once in.
//
// Before this text come: THREADS, LOADS; Unit, load_x, store_out (in units). Loops marked 'unroll' are written out.

struct Params {
  workgroups: u32,
  // Per sequence.
  blocks: u32,
  row_units: u32,
  longest: u32,
  x_first: u32,
  out_first: u32,
  pad: u32,
}

struct Sequence {
  first_row: u32,
  length: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;

@compute @workgroup_size(THREADS)
fn pack_seq(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.x + workgroup.y * grid.x;
  if (index >= params.workgroups) { return; }
  let batch = index / params.blocks;
  let sequence = sequences[batch];
  let first = (index % params.blocks) * LOADS * THREADS + thread;
  let filled = sequence.length * params.row_units;
  let whole = params.longest * params.row_units;
  let x_at = params.x_first + sequence.first_row * params.row_units;
  let out_at = params.out_first + batch * whole;
  var units: array<Unit, LOADS>;
  for (var i = 0u; i < LOADS; i++) { // unroll
    let unit = first + i * THREADS;
    units[i] = Unit(params.pad);
    if (unit < filled) { units[i] = load_x(x_at + unit); }
  }
  for (var i = 0u; i < LOADS; i++) { // unroll
    let unit = first + i * THREADS;
    if (unit < whole) { store_out(out_at + unit, units[i]); }
  }
}
`;
