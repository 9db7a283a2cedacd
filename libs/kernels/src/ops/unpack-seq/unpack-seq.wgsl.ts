export const UNPACK_SEQ_WGSL = /* wgsl */ `
// Unpacks a padded batch into sequences that lie one after another. Bits are moved, never interpreted.
//
// Grid: one workgroup per sequence and LOADS * THREADS units of its rows (padding included), which lie one after
// another on both sides.
// Ownership: a thread owns LOADS whole units of out: 16 bytes, a word, or a smaller element stored by atomics.
// Memory traffic: every unit that is no padding once in and once out.
//
// Before this text come: THREADS, LOADS; Unit, load_packed, store_out (in units). Loops marked 'unroll' are written
// out.

struct Params {
  workgroups: u32,
  // Per sequence.
  blocks: u32,
  row_units: u32,
  longest: u32,
  packed_first: u32,
  out_first: u32,
}

struct Sequence {
  first_row: u32,
  length: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;

@compute @workgroup_size(THREADS)
fn unpack_seq(
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
  let packed_at = params.packed_first + batch * params.longest * params.row_units;
  let out_at = params.out_first + sequence.first_row * params.row_units;
  var units: array<Unit, LOADS>;
  for (var i = 0u; i < LOADS; i++) { // unroll
    let unit = first + i * THREADS;
    if (unit < filled) { units[i] = load_packed(packed_at + unit); }
  }
  for (var i = 0u; i < LOADS; i++) { // unroll
    let unit = first + i * THREADS;
    if (unit < filled) { store_out(out_at + unit, units[i]); }
  }
}
`;
