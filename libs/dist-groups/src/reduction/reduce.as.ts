// Fold and copy kernels over shared memory.
//
// Grid: one call, one thread: the calling rank.
// Ownership: the caller owns the destination and the operand table; sources are only read. A destination may be exactly
//   one of the sources (same address, same strides), never a shifted overlap.
// Memory traffic: every source element is read once, every destination element is written once.
// Numerical contract: a left fold over the sources in table order, seeded with source 0: ((s0 + s1) + s2) + ...
//   f32 adds in f32; f16 and bf16 widen to f32, fold in f32, and round once (to nearest, ties to even) on store;
//   integer sums wrap. max and min return NaN when any operand is NaN and order -0 below +0. No fused multiply-add.
//   Vector and scalar elements go through the same lane arithmetic, so the bits do not depend on strides or
//   alignment.
//
// Operand table (32-bit words, private to the caller, overwritten by a call):
//   [0, 8) shape   [8, 16) scratch   then 9 words per operand: byte address, 8 strides in elements.
//   Operand 0 is the destination.

const SUM: i32 = 0;
const MAX: i32 = 1;

const F32: i32 = 0;
const F16: i32 = 1;
const BF16: i32 = 2;
const I32: i32 = 3;
const U32: i32 = 4;

const INDEX: usize = 32;
const OPERANDS: usize = 64;
const OPERAND_BYTES: usize = 36;

@inline function operand(table: usize, k: i32): usize {
  return table + OPERANDS + <usize>k * OPERAND_BYTES;
}

@inline function stride(table: usize, k: i32, dim: i32): i32 {
  return load<i32>(operand(table, k) + 4 + (<usize>dim << 2));
}

@inline function extent(table: usize, dim: i32): i32 {
  return load<i32>(table + (<usize>dim << 2));
}

/** f16 patterns in 32-bit lanes to f32. Scaling by 2^112 is exact and normalises subnormals. */
@inline function widenF16(half: v128): v128 {
  const magnitude = v128.and(half, i32x4.splat(0x7fff));
  const scaled = f32x4.mul(i32x4.shl(magnitude, 13), f32x4.splat(reinterpret<f32>(0x77800000)));
  const special = i32x4.ge_s(magnitude, i32x4.splat(0x7c00));
  const widened = v128.or(scaled, v128.and(special, i32x4.splat(0x7f800000)));
  return v128.or(widened, i32x4.shl(v128.and(half, i32x4.splat(0x8000)), 16));
}

/** f32 lanes to f16 patterns in 32-bit lanes, to nearest, ties to even. NaN becomes quiet. */
@inline function narrowF16(value: v128): v128 {
  const magnitude = v128.and(value, i32x4.splat(0x7fffffff));
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.sub(magnitude, i32x4.splat(0x38000000 - 0xfff)), odd), 13);
  const subnormal = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  let result = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(0x38800000)));
  result = v128.bitselect(i32x4.splat(0x7c00), result, i32x4.ge_s(magnitude, i32x4.splat(0x477ff000)));
  result = v128.bitselect(i32x4.splat(0x7e00), result, i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)));
  return v128.or(result, v128.and(i32x4.shr_u(value, 16), i32x4.splat(0x8000)));
}

/** f32 lanes to bf16 patterns in 32-bit lanes, to nearest, ties to even. NaN becomes quiet. */
@inline function narrowBF16(value: v128): v128 {
  const odd = v128.and(i32x4.shr_u(value, 16), i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(value, i32x4.splat(0x7fff)), odd), 16);
  const nan = v128.or(v128.and(i32x4.shr_u(value, 16), i32x4.splat(0x8000)), i32x4.splat(0x7fc0));
  const magnitude = v128.and(value, i32x4.splat(0x7fffffff));
  return v128.bitselect(nan, rounded, i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)));
}

/** 16 bytes of a 32-bit or 8-bit dtype, or four 16-bit elements widened to f32. */
@inline function loadVector(dtype: i32, address: usize): v128 {
  if (dtype == F16) return widenF16(v128.load_ext<u16>(address));
  if (dtype == BF16) return i32x4.shl(v128.load_ext<u16>(address), 16);
  return v128.load(address);
}

@inline function storeVector(dtype: i32, address: usize, value: v128): void {
  if (dtype == F16 || dtype == BF16) {
    const narrow = dtype == F16 ? narrowF16(value) : narrowBF16(value);
    v128.store64_lane(address, i16x8.narrow_i32x4_u(narrow, narrow), 0);
  } else v128.store(address, value);
}

/** One element in lane 0. */
@inline function loadElement(dtype: i32, address: usize): v128 {
  if (dtype == F16) return widenF16(i32x4.splat(<i32>load<u16>(address)));
  if (dtype == BF16) return i32x4.splat((<i32>load<u16>(address)) << 16);
  if (dtype == F32 || dtype == I32 || dtype == U32) return i32x4.splat(load<i32>(address));
  return i8x16.splat(load<i8>(address));
}

@inline function storeElement(dtype: i32, address: usize, value: v128): void {
  if (dtype == F16) store<u16>(address, <u16>i32x4.extract_lane(narrowF16(value), 0));
  else if (dtype == BF16) store<u16>(address, <u16>i32x4.extract_lane(narrowBF16(value), 0));
  else if (dtype == F32 || dtype == I32 || dtype == U32) store<i32>(address, i32x4.extract_lane(value, 0));
  else store<u8>(address, i8x16.extract_lane_u(value, 0));
}

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

/**
 * Merges dimensions that lie end to end in every operand, drops those of size 1, turns strides into bytes, and clears
 * the index. Returns the number of dimensions left (at least 1).
 */
function coalesce(table: usize, operands: i32, dims: i32, elementBytes: i32): i32 {
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
@inline function advance(table: usize, operands: i32, dims: i32): bool {
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

@inline function innerIsContiguous(table: usize, operands: i32, dims: i32, elementBytes: i32): bool {
  for (let k = 0; k < operands; k++) if (stride(table, k, dims - 1) != elementBytes) return false;
  return true;
}

@inline function foldRuns(dtype: i32, op: i32, table: usize, sources: i32, dims: i32, elementBytes: i32): void {
  const count = <usize>extent(table, dims - 1);
  const contiguous = innerIsContiguous(table, sources + 1, dims, elementBytes);
  do {
    if (contiguous) foldContiguous(dtype, op, table, sources, count);
    else foldStrided(dtype, op, table, sources, count, dims - 1);
  } while (advance(table, sources + 1, dims));
}

function foldDtype(dtype: i32, op: i32, table: usize, sources: i32, dims: i32): void {
  if (dtype == F32) {
    if (op == SUM) foldRuns(F32, 0, table, sources, dims, 4);
    else if (op == MAX) foldRuns(F32, 1, table, sources, dims, 4);
    else foldRuns(F32, 2, table, sources, dims, 4);
  } else if (dtype == F16) {
    if (op == SUM) foldRuns(F16, 0, table, sources, dims, 2);
    else if (op == MAX) foldRuns(F16, 1, table, sources, dims, 2);
    else foldRuns(F16, 2, table, sources, dims, 2);
  } else if (dtype == BF16) {
    if (op == SUM) foldRuns(BF16, 0, table, sources, dims, 2);
    else if (op == MAX) foldRuns(BF16, 1, table, sources, dims, 2);
    else foldRuns(BF16, 2, table, sources, dims, 2);
  } else if (dtype == I32) {
    if (op == SUM) foldRuns(I32, 0, table, sources, dims, 4);
    else if (op == MAX) foldRuns(I32, 1, table, sources, dims, 4);
    else foldRuns(I32, 2, table, sources, dims, 4);
  } else if (dtype == U32) {
    if (op == SUM) foldRuns(U32, 0, table, sources, dims, 4);
    else if (op == MAX) foldRuns(U32, 1, table, sources, dims, 4);
    else foldRuns(U32, 2, table, sources, dims, 4);
  } else {
    if (op == SUM) foldRuns(5, 0, table, sources, dims, 1);
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
