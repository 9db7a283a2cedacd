// Unpacks a padded batch into sequences that lie one after another. Bits are moved, never interpreted.
//
// Grid: one workgroup per sequence, BLOCK_ROWS rows of it (padding included) and BLOCK_UNITS units of each row.
// Ownership: a thread owns whole units of out: 16 bytes, a word, or a smaller element stored by atomics.
// Memory traffic: every unit that is no padding once in and once out.
//
// Before this text come: THREADS, BLOCK_ROWS, BLOCK_UNITS; load_packed, store_out (in units).

struct Params {
  workgroups: u32,
  row_blocks: u32,
  column_blocks: u32,
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
  let first_column = (index % params.column_blocks) * BLOCK_UNITS;
  let first_row = ((index / params.column_blocks) % params.row_blocks) * BLOCK_ROWS;
  let batch = index / (params.column_blocks * params.row_blocks);
  let sequence = sequences[batch];
  for (var i = thread; i < BLOCK_ROWS * BLOCK_UNITS; i += THREADS) {
    let row = first_row + i / BLOCK_UNITS;
    let column = first_column + i % BLOCK_UNITS;
    if (row < sequence.length && column < params.row_units) {
      let value = load_packed(params.packed_first + (batch * params.longest + row) * params.row_units + column);
      store_out(params.out_first + (sequence.first_row + row) * params.row_units + column, value);
    }
  }
}
