// The operand table of the copy and fold kernels, and the walk over its runs: the innermost dimensions that lie end to
// end in every operand.
//
// Operand table (32-bit words, private to the caller, overwritten by a call):
//   [0, 8) shape   [8, 16) scratch   then 9 words per operand: byte address, 8 strides in elements.
//   Operand 0 is the destination.

const INDEX: usize = 32;
const OPERANDS: usize = 64;
const OPERAND_BYTES: usize = 36;

@inline export function operand(table: usize, k: i32): usize {
  return table + OPERANDS + <usize>k * OPERAND_BYTES;
}

@inline export function stride(table: usize, k: i32, dim: i32): i32 {
  return load<i32>(operand(table, k) + 4 + (<usize>dim << 2));
}

@inline export function extent(table: usize, dim: i32): i32 {
  return load<i32>(table + (<usize>dim << 2));
}

/**
 * Merges dimensions that lie end to end in every operand, drops those of size 1, turns strides into bytes, and clears
 * the index. Returns the number of dimensions left (at least 1).
 */
export function coalesce(table: usize, operands: i32, dims: i32, elementBytes: i32): i32 {
  let kept = 0;
  for (let dim = 0; dim < dims; dim++) {
    const size = extent(table, dim);
    if (size == 1) continue;
    let merges = kept > 0;
    for (let k = 0; merges && k < operands; k++) {
      if (stride(table, k, kept - 1) != stride(table, k, dim) * size) merges = false;
    }
    const to = merges ? kept - 1 : kept;
    store<i32>(table + (<usize>to << 2), merges ? extent(table, to) * size : size);
    for (let k = 0; k < operands; k++) {
      store<i32>(operand(table, k) + 4 + (<usize>to << 2), stride(table, k, dim));
    }
    if (!merges) kept++;
  }
  if (kept == 0) {
    store<i32>(table, 1);
    for (let k = 0; k < operands; k++) store<i32>(operand(table, k) + 4, 1);
    kept = 1;
  }
  for (let dim = 0; dim < kept; dim++) {
    store<i32>(table + INDEX + (<usize>dim << 2), 0);
    for (let k = 0; k < operands; k++) {
      store<i32>(operand(table, k) + 4 + (<usize>dim << 2), stride(table, k, dim) * elementBytes);
    }
  }
  return kept;
}

/** Moves every operand to the next run of the innermost dimension; false after the last. */
@inline export function advance(table: usize, operands: i32, dims: i32): bool {
  for (let dim = dims - 2; dim >= 0; dim--) {
    const index = load<i32>(table + INDEX + (<usize>dim << 2)) + 1;
    const size = extent(table, dim);
    const wraps = index == size;
    store<i32>(table + INDEX + (<usize>dim << 2), wraps ? 0 : index);
    for (let k = 0; k < operands; k++) {
      const step = stride(table, k, dim);
      store<i32>(operand(table, k), load<i32>(operand(table, k)) + (wraps ? -(size - 1) * step : step));
    }
    if (!wraps) return true;
  }
  return false;
}

@inline export function innerIsContiguous(table: usize, operands: i32, dims: i32, elementBytes: i32): bool {
  for (let k = 0; k < operands; k++) if (stride(table, k, dims - 1) != elementBytes) return false;
  return true;
}
