// gatherKvCache on the shared heap.
//
// Grid: one thread walks rows, then KV heads. Traffic: every row once in, once out. Bytes move as they are.

/**
 * `slots` holds one i32 per row; a row has `heads` parts of `bytes` bytes. Strides in bytes.
 */
export function gatherKvCache(
  cache: usize,
  blockStride: u32,
  offsetStride: u32,
  headStride: u32,
  blockSize: i32,
  heads: i32,
  bytes: u32,
  slots: usize,
  count: i32,
  rows: usize,
): void {
  for (let row = 0; row < count; row++) {
    const slot = load<i32>(slots + row * 4);
    let source = cache + <u32>(slot / blockSize) * blockStride + <u32>(slot % blockSize) * offsetStride;
    if (headStride == bytes) {
      memory.copy(rows, source, bytes * heads);
      rows += bytes * heads;
      continue;
    }
    for (let head = 0; head < heads; head++) {
      memory.copy(rows, source, bytes);
      source += headStride;
      rows += bytes;
    }
  }
}
