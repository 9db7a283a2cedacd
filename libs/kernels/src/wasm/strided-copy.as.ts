// Copies and fills over strided views, any number of dimensions.
//
// A view pair is a table of u32: [size, sourceStride, targetStride] for each dimension, outermost first, strides in
// bytes. The caller merges dimensions that are contiguous in both views and, when the innermost strides equal the
// element size, turns the innermost dimension into one element of that many bytes; so contiguous runs of any length
// move by one bulk copy.

/** Copies elements of `bytes` bytes. */
export function copyStrided(table: usize, dims: i32, source: usize, target: usize, bytes: i32): void {
  if (dims == 0) {
    copyRun(source, target, bytes);
    return;
  }
  const size = load<u32>(table);
  const sourceStride = load<u32>(table, 4);
  const targetStride = load<u32>(table, 8);
  if (dims > 1) {
    for (let index: u32 = 0; index < size; index++) {
      copyStrided(table + 12, dims - 1, source, target, bytes);
      source += sourceStride;
      target += targetStride;
    }
  } else if (bytes == 4) {
    for (let index: u32 = 0; index < size; index++) {
      store<u32>(target, load<u32>(source));
      source += sourceStride;
      target += targetStride;
    }
  } else if (bytes == 2) {
    for (let index: u32 = 0; index < size; index++) {
      store<u16>(target, load<u16>(source));
      source += sourceStride;
      target += targetStride;
    }
  } else if (bytes == 1) {
    for (let index: u32 = 0; index < size; index++) {
      store<u8>(target, load<u8>(source));
      source += sourceStride;
      target += targetStride;
    }
  } else {
    for (let index: u32 = 0; index < size; index++) {
      copyRun(source, target, bytes);
      source += sourceStride;
      target += targetStride;
    }
  }
}

/** Short runs are not worth a call. */
// @ts-ignore: decorator
@inline
function copyRun(source: usize, target: usize, bytes: i32): void {
  if (bytes > 256) {
    memory.copy(target, source, bytes);
    return;
  }
  let at = 0;
  for (; at + 16 <= bytes; at += 16) v128.store(target + at, v128.load(source + at));
  for (; at < bytes; at++) store<u8>(target + at, load<u8>(source + at));
}

/** Fills elements of `bytes` bytes with a pattern: a splat of the 1-, 2- or 4-byte value `pattern` repeats. */
export function fillStrided(table: usize, dims: i32, target: usize, bytes: i32, pattern: i32): void {
  if (dims == 0) {
    fillRun(target, bytes, pattern);
    return;
  }
  const size = load<u32>(table);
  const stride = load<u32>(table, 8);
  for (let index: u32 = 0; index < size; index++) {
    fillStrided(table + 12, dims - 1, target, bytes, pattern);
    target += stride;
  }
}

/** `pattern` is 4 bytes wide (narrower values repeated), and the run starts at its beginning. */
// @ts-ignore: decorator
@inline
function fillRun(target: usize, bytes: i32, pattern: i32): void {
  const vector = i32x4.splat(pattern);
  let at = 0;
  for (; at + 16 <= bytes; at += 16) v128.store(target + at, vector);
  for (; at + 4 <= bytes; at += 4) store<i32>(target + at, pattern);
  let rest = pattern;
  for (; at < bytes; at++) {
    store<u8>(target + at, <u8>rest);
    rest >>= 8;
  }
}
