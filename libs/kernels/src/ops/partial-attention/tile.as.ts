// A tile's keys or values as f32, KV head by KV head, from rows read in the order they lie in memory.

import { convertRow, convertScaledRow } from "./rows.as";
import { touchRows } from "./touch.as";

/** Keys whose cache lines are brought near before they are converted: few enough to stay in the L1 cache until then. */
const NEAR_KEYS: i32 = 16;

/**
 * `rows` points to `count` addresses of rows; KV heads lie `headStride` bytes apart in them, the first of `kvHeads` at
 * `offset`. Its keys go to `tile`, `tileBytes` apart, those of the next head `tileStride` further, and so on. The
 * result is that of touchRows.
 */
export function convertTile<T>(
  rows: usize,
  count: i32,
  offset: usize,
  headStride: u32,
  kvHeads: i32,
  tile: usize,
  tileBytes: i32,
  tileStride: i32,
  dim: i32,
  paired: bool,
): u32 {
  const span = (kvHeads - 1) * headStride + dim * sizeof<T>();
  let read: u32 = 0;
  for (let key = 0; key < count; key++) {
    if (key % NEAR_KEYS == 0) read ^= touchRows(rows + key * 4, min(NEAR_KEYS, count - key), offset, span);
    let source: usize = load<u32>(rows + key * 4) + offset;
    let target = tile + key * tileBytes;
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      convertRow<T>(source, target, dim, paired);
      source += headStride;
      target += tileStride;
    }
  }
  return read;
}

/**
 * The same for rows of 8-bit elements with a scale each, which they are multiplied by. `scales` points to `count`
 * addresses of the f32 of KV head 0; those of the heads lie `scaleStride` bytes apart, the first of `kvHeads` at
 * `scaleOffset`.
 */
export function convertScaledTile<T>(
  rows: usize,
  count: i32,
  offset: usize,
  headStride: u32,
  kvHeads: i32,
  tile: usize,
  tileBytes: i32,
  tileStride: i32,
  dim: i32,
  scales: usize,
  scaleOffset: usize,
  scaleStride: u32,
): u32 {
  const span = (kvHeads - 1) * headStride + dim * sizeof<T>();
  let read: u32 = 0;
  for (let key = 0; key < count; key++) {
    if (key % NEAR_KEYS == 0) read ^= touchRows(rows + key * 4, min(NEAR_KEYS, count - key), offset, span);
    let source: usize = load<u32>(rows + key * 4) + offset;
    let target = tile + key * tileBytes;
    let scale: usize = load<u32>(scales + key * 4) + scaleOffset;
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      convertScaledRow<T>(source, target, dim, load<f32>(scale));
      source += headStride;
      target += tileStride;
      scale += scaleStride;
    }
  }
  return read;
}
