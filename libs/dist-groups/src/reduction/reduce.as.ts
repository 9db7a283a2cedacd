// Fold and copy kernels over shared memory.
//
// Grid: one call, one thread: the calling rank.
// Ownership: the caller owns the destination and the operand table; sources are only read. A destination may be exactly
//   one of the sources (same address, same strides), never a shifted overlap.
// Memory traffic: every source element is read once, every destination element is written once.
// Numerical contract: a left fold over the sources in table order, seeded with source 0: ((s0 + s1) + s2) + ...
//   f32 adds in f32; f16 and bf16 widen to f32, fold in f32, and round once (to nearest, ties to even) on store;
//   integer sums wrap. max and min return NaN when any operand is NaN and order -0 below +0. No fused multiply-add.
//   The world-invariant sum of floats has no order: see invariant-sum.as.ts. Vector and scalar elements go through the
//   same lane arithmetic, so the bits do not depend on strides or alignment.

import {
  BF16, F16, F32, I32, loadElement, loadVector, storeElement, storeVector, U32,
} from "./elements.as";
import { invariantSum } from "./invariant-sum.as";
import { advance, coalesce, extent, innerIsContiguous, operand, stride } from "./operands.as";

const SUM: i32 = 0;
const MAX: i32 = 1;
const MIN: i32 = 2;
const INVARIANT_SUM: i32 = 3;

@inline function combine(dtype: i32, op: i32, a: v128, b: v128): v128 {
  if (dtype == F32 || dtype == F16 || dtype == BF16) {
    return op == SUM ? f32x4.add(a, b) : op == MAX ? f32x4.max(a, b) : f32x4.min(a, b);
  }
  if (dtype == I32) return op == SUM ? i32x4.add(a, b) : op == MAX ? i32x4.max_s(a, b) : i32x4.min_s(a, b);
  if (dtype == U32) return op == SUM ? i32x4.add(a, b) : op == MAX ? i32x4.max_u(a, b) : i32x4.min_u(a, b);
  return op == SUM ? i8x16.add(a, b) : op == MAX ? i8x16.max_u(a, b) : i8x16.min_u(a, b);
}

/** Folds `count` contiguous elements at the operands' addresses. */
@inline function foldContiguous(dtype: i32, op: i32, table: usize, sources: i32, count: usize): void {
  const elementBytes: usize = dtype == F32 || dtype == I32 || dtype == U32 ? 4 : dtype == F16 || dtype == BF16 ? 2 : 1;
  const vectorBytes: usize = dtype == F16 || dtype == BF16 ? 8 : 16;
  const end = count * elementBytes;
  const target = load<u32>(operand(table, 0)) as usize;
  const first = load<u32>(operand(table, 1)) as usize;
  const blockBytes = vectorBytes << 2;
  let at: usize = 0;
  while (at + blockBytes <= end) {
    let a = loadVector(dtype, first + at);
    let b = loadVector(dtype, first + at + vectorBytes);
    let c = loadVector(dtype, first + at + 2 * vectorBytes);
    let d = loadVector(dtype, first + at + 3 * vectorBytes);
    for (let k = 2; k <= sources; k++) {
      const source = (load<u32>(operand(table, k)) as usize) + at;
      a = combine(dtype, op, a, loadVector(dtype, source));
      b = combine(dtype, op, b, loadVector(dtype, source + vectorBytes));
      c = combine(dtype, op, c, loadVector(dtype, source + 2 * vectorBytes));
      d = combine(dtype, op, d, loadVector(dtype, source + 3 * vectorBytes));
    }
    storeVector(dtype, target + at, a);
    storeVector(dtype, target + at + vectorBytes, b);
    storeVector(dtype, target + at + 2 * vectorBytes, c);
    storeVector(dtype, target + at + 3 * vectorBytes, d);
    at += blockBytes;
  }
  while (at < end) {
    let value = loadElement(dtype, first + at);
    for (let k = 2; k <= sources; k++) {
      value = combine(dtype, op, value, loadElement(dtype, (load<u32>(operand(table, k)) as usize) + at));
    }
    storeElement(dtype, target + at, value);
    at += elementBytes;
  }
}

/** Folds `count` elements, each operand stepping by its stride in dimension `dim` (strides already in bytes). */
@inline function foldStrided(dtype: i32, op: i32, table: usize, sources: i32, count: usize, dim: i32): void {
  for (let i: usize = 0; i < count; i++) {
    const first = (load<u32>(operand(table, 1)) as usize) + i * <usize>stride(table, 1, dim);
    let value = loadElement(dtype, first);
    for (let k = 2; k <= sources; k++) {
      const source = (load<u32>(operand(table, k)) as usize) + i * <usize>stride(table, k, dim);
      value = combine(dtype, op, value, loadElement(dtype, source));
    }
    storeElement(dtype, (load<u32>(operand(table, 0)) as usize) + i * <usize>stride(table, 0, dim), value);
  }
}

@inline function foldRuns(dtype: i32, op: i32, table: usize, sources: i32, dims: i32, elementBytes: i32): void {
  const count = <usize>extent(table, dims - 1);
  const contiguous = innerIsContiguous(table, sources + 1, dims, elementBytes);
  do {
    if (op == INVARIANT_SUM) invariantSum(dtype, table, sources, count, dims - 1, contiguous);
    else if (contiguous) foldContiguous(dtype, op, table, sources, count);
    else foldStrided(dtype, op, table, sources, count, dims - 1);
  } while (advance(table, sources + 1, dims));
}

function foldDtype(dtype: i32, op: i32, table: usize, sources: i32, dims: i32): void {
  if (dtype == F32) {
    if (op == SUM) foldRuns(F32, 0, table, sources, dims, 4);
    else if (op == MAX) foldRuns(F32, 1, table, sources, dims, 4);
    else if (op == MIN) foldRuns(F32, 2, table, sources, dims, 4);
    else foldRuns(F32, 3, table, sources, dims, 4);
  } else if (dtype == F16) {
    if (op == SUM) foldRuns(F16, 0, table, sources, dims, 2);
    else if (op == MAX) foldRuns(F16, 1, table, sources, dims, 2);
    else if (op == MIN) foldRuns(F16, 2, table, sources, dims, 2);
    else foldRuns(F16, 3, table, sources, dims, 2);
  } else if (dtype == BF16) {
    if (op == SUM) foldRuns(BF16, 0, table, sources, dims, 2);
    else if (op == MAX) foldRuns(BF16, 1, table, sources, dims, 2);
    else if (op == MIN) foldRuns(BF16, 2, table, sources, dims, 2);
    else foldRuns(BF16, 3, table, sources, dims, 2);
  } else if (dtype == I32) {
    if (op == SUM || op == INVARIANT_SUM) foldRuns(I32, 0, table, sources, dims, 4);
    else if (op == MAX) foldRuns(I32, 1, table, sources, dims, 4);
    else foldRuns(I32, 2, table, sources, dims, 4);
  } else if (dtype == U32) {
    if (op == SUM || op == INVARIANT_SUM) foldRuns(U32, 0, table, sources, dims, 4);
    else if (op == MAX) foldRuns(U32, 1, table, sources, dims, 4);
    else foldRuns(U32, 2, table, sources, dims, 4);
  } else {
    if (op == SUM || op == INVARIANT_SUM) foldRuns(5, 0, table, sources, dims, 1);
    else if (op == MAX) foldRuns(5, 1, table, sources, dims, 1);
    else foldRuns(5, 2, table, sources, dims, 1);
  }
}

/** destination = source 1 op source 2 op ... op source `sources`, over the `dims` dimensions of the table. */
export function fold(table: usize, dims: i32, sources: i32, dtype: i32, op: i32): void {
  for (let dim = 0; dim < dims; dim++) if (extent(table, dim) == 0) return;
  const elementBytes = dtype == F16 || dtype == BF16 ? 2 : dtype <= U32 ? 4 : 1;
  foldDtype(dtype, op, table, sources, coalesce(table, sources + 1, dims, elementBytes));
}

/** destination (operand 0) = source (operand 1), over the `dims` dimensions of the table. */
export function copy(table: usize, dims: i32, elementBytes: i32): void {
  for (let dim = 0; dim < dims; dim++) if (extent(table, dim) == 0) return;
  const left = coalesce(table, 2, dims, elementBytes);
  const count = extent(table, left - 1);
  const targetStep = <usize>stride(table, 0, left - 1);
  const sourceStep = <usize>stride(table, 1, left - 1);
  const contiguous = innerIsContiguous(table, 2, left, elementBytes);
  do {
    let target = load<u32>(operand(table, 0)) as usize;
    let source = load<u32>(operand(table, 1)) as usize;
    if (contiguous) {
      memory.copy(target, source, <usize>(count * elementBytes));
      continue;
    }
    for (let i = 0; i < count; i++) {
      if (elementBytes == 4) store<i32>(target, load<i32>(source));
      else if (elementBytes == 2) store<u16>(target, load<u16>(source));
      else store<u8>(target, load<u8>(source));
      target += targetStep;
      source += sourceStep;
    }
  } while (advance(table, 2, left));
}

/** Copies `bytes` bytes from address `source` to address `target`. */
export function move(target: usize, source: usize, bytes: usize): void {
  memory.copy(target, source, bytes);
}
