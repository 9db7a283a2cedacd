// Scores of a pass's rows against a tile of keys, for the two passes of world-invariant attention: by the same
// functions as those of partialAttention, so that a query and a key have one score everywhere.

import {
  findRows, GROUP_OFFSET, GROUP_SIZE, headScale, KEY, KEY_DIM, KEY_ROW_SCALES, KEY_SCALES, pad4, PASS, POINTERS, Q_ROWS,
  QUERY, S_ROWS, SCALE, SOFTCAP, STATE, STATE_BYTES, TILE, TILE_KEYS, TOUCHED, VALUE_DIM, writeVisible,
} from "./attention-table.as";
import { loadQueryRow, pairRow } from "./rows.as";
import { SCORE_STRIDE, scores } from "./scores.as";
import { capScores } from "./softmax.as";
import { convertScaledTile, convertTile } from "./tile.as";
import { touchRows } from "./touch.as";

/** Whether a tile's rows have their columns of even number first: see convertRow. */
// @ts-ignore: decorator
@inline
export function isPaired<T>(p: usize): bool {
  return sizeof<T>() == 2 && ((load<i32>(p, KEY_DIM) | load<i32>(p, VALUE_DIM)) & 7) == 0;
}

/** Bytes of a tile's row: the longer one of a key's and a value's, as f32. */
// @ts-ignore: decorator
@inline
export function tileRowBytes(p: usize): i32 {
  return max(pad4(load<i32>(p, KEY_DIM)), pad4(load<i32>(p, VALUE_DIM))) * 4;
}

/** The first row of the pass that reads a KV head. */
// @ts-ignore: decorator
@inline
export function firstHeadOf(p: usize, kvHead: i32): i32 {
  return max(load<i32>(p, PASS + 8), kvHead * load<i32>(p, GROUP_SIZE) - load<i32>(p, GROUP_OFFSET));
}

/** One past the last head of the pass that reads a KV head. */
// @ts-ignore: decorator
@inline
export function lastHeadOf(p: usize, kvHead: i32): i32 {
  return min(load<i32>(p, PASS + 12), (kvHead + 1) * load<i32>(p, GROUP_SIZE) - load<i32>(p, GROUP_OFFSET));
}

// @ts-ignore: decorator
@inline
export function firstKvHeadOf(p: usize): i32 {
  return (load<i32>(p, PASS + 8) + load<i32>(p, GROUP_OFFSET)) / load<i32>(p, GROUP_SIZE);
}

// @ts-ignore: decorator
@inline
export function lastKvHeadOf(p: usize): i32 {
  return (load<i32>(p, PASS + 12) - 1 + load<i32>(p, GROUP_OFFSET)) / load<i32>(p, GROUP_SIZE);
}

/** Reads the queries of the pass's rows, and says where the rows of a tile lie. */
export function beginScores<T>(p: usize): void {
  const token = load<i32>(p, PASS);
  const tokenCount = load<i32>(p, PASS + 4);
  const keyDim = load<i32>(p, KEY_DIM);
  const keyBytes = pad4(keyDim) * 4;
  const last = lastKvHeadOf(p);
  let q: usize = load<u32>(p, Q_ROWS);
  for (let kvHead = firstKvHeadOf(p); kvHead <= last; kvHead++) {
    const from = firstHeadOf(p, kvHead);
    const stop = lastHeadOf(p, kvHead);
    const scale = load<f32>(p, SCALE) * headScale(p, KEY_SCALES, kvHead);
    for (let index = token; index < token + tokenCount; index++) {
      let at: usize = load<u32>(p, QUERY) + index * load<u32>(p, QUERY + 4) + from * load<u32>(p, QUERY + 8);
      for (let head = from; head < stop; head++) {
        loadQueryRow(at, load<u32>(p, QUERY + 12), load<i32>(p, QUERY + 16), q, keyDim, scale);
        if (isPaired<T>(p)) pairRow(q, keyDim);
        at += load<u32>(p, QUERY + 8);
        q += keyBytes;
      }
    }
  }
}

/** Writes where the f32 rows of a tile lie, for functions that take rows by their addresses. */
export function placeTileRows(p: usize): void {
  const tileKeys = load<i32>(p, TILE_KEYS);
  const rows: usize = load<u32>(p, POINTERS) + tileKeys * 8;
  let row: usize = load<u32>(p, TILE);
  for (let key = 0; key < tileKeys; key++) {
    store<u32>(rows + key * 4, <u32>row);
    row += tileRowBytes(p);
  }
}

/**
 * Scores of the pass's rows against `count` keys from local index `first` on, in units of ln 2, after the softcap; and
 * which of them each row sees. Keys that are converted stay in the tile.
 */
export function scoreTile<T>(p: usize, first: i32, count: i32): void {
  const token = load<i32>(p, PASS);
  const tokenCount = load<i32>(p, PASS + 4);
  const head = load<i32>(p, PASS + 8);
  const sequence = load<i32>(p, PASS + 16);
  const keyDim = load<i32>(p, KEY_DIM);
  const keyBytes = pad4(keyDim) * 4;
  const tileKeys = load<i32>(p, TILE_KEYS);
  const tile: usize = load<u32>(p, TILE);
  const tileBytes = tileRowBytes(p);
  const tileStride = tileKeys * tileBytes;
  const keyRows: usize = load<u32>(p, POINTERS);
  const tileRows = keyRows + tileKeys * 8;
  const firstKvHead = firstKvHeadOf(p);
  const lastKvHead = lastKvHeadOf(p);
  const kvHeads = lastKvHead + 1 - firstKvHead;
  const keyStride = load<u32>(p, KEY + 12);
  const keyOffset = firstKvHead * keyStride;
  const padded = pad4(count);
  const converts = !isFloat<T>() || (keyDim & 3) != 0;
  findRows(p, KEY, sequence, first, count, keyRows);
  for (let key = count; key < padded; key++) store<u32>(keyRows + key * 4, load<u32>(keyRows + (count - 1) * 4));
  let read: u32 = 0;
  if (!converts) {
    if (kvHeads > 1) read = touchRows(keyRows, count, keyOffset, (kvHeads - 1) * keyStride + keyDim * sizeof<T>());
  } else if (load<u32>(p, KEY_ROW_SCALES) != 0) {
    const scaleRows = tileRows + tileKeys * 4;
    const scaleStride = load<u32>(p, KEY_ROW_SCALES + 12);
    findRows(p, KEY_ROW_SCALES, sequence, first, count, scaleRows);
    read = convertScaledTile<T>(
      keyRows, count, keyOffset, keyStride, kvHeads, tile, tileBytes, tileStride, keyDim,
      scaleRows, firstKvHead * scaleStride, scaleStride,
    );
  } else {
    const paired = isPaired<T>(p);
    read = convertTile<T>(
      keyRows, count, keyOffset, keyStride, kvHeads, tile, tileBytes, tileStride, keyDim, paired,
    );
  }
  store<u32>(p, read, TOUCHED);
  const softcap = load<f32>(p, SOFTCAP);
  for (let kvHead = firstKvHead; kvHead <= lastKvHead; kvHead++) {
    const from = firstHeadOf(p, kvHead);
    const heads = lastHeadOf(p, kvHead) - from;
    const row = (from - head) * tokenCount;
    const rows = heads * tokenCount;
    const target: usize = load<u32>(p, S_ROWS) + row * <i32>SCORE_STRIDE;
    const q: usize = load<u32>(p, Q_ROWS) + row * keyBytes;
    writeVisible(p, token, tokenCount, heads, first, count, load<u32>(p, STATE) + row * STATE_BYTES);
    if (converts) scores(q, rows, tileRows, (kvHead - firstKvHead) * tileStride, padded, keyBytes, target);
    else scores(q, rows, keyRows, kvHead * keyStride, padded, keyBytes, target);
    for (let index = 0; index < rows; index++) capScores(target + index * <i32>SCORE_STRIDE, padded, softcap);
  }
}
