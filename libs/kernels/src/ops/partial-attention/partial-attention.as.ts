// partialAttention on the shared heap: flash attention over tiles of keys.
//
// Grid: one thread walks runs of query tokens of one sequence; the run's (token, head) pairs, up to `maxRows` of them,
// form the rows of a pass, those that read one KV head next to one another. For every tile of keys: scores and online
// softmax, KV head by KV head, then weighted sums.
// Traffic: a tile's K and V rows are read once per pass (so once per step in decode) in the order they lie in memory,
// and converted to f32 once, for all KV heads; one head's part then comes from the L1 cache for every row. Scores,
// weights and sums stay in scratch.
// Numerics: f32; keys in order, 4 partial sums per dot product, one exact maximum and one rescale per tile. Tiles end
// at multiples of a constant in local indexes; the first begins with the first key that is seen. A row sums only keys
// that it sees, in order: what else is in the batch never reaches its bits, not even as a NaN times zero.
//
// Parameters are u32 in a table, in the order of the constants below; strides in bytes.

import { BF16, F16, F8, I8 } from "../../wasm/dtype.as";
import { log4 } from "../../wasm/math.as";
import { storeOut } from "./out-row.as";
import { loadQueryRow, pairRow, unpairRow } from "./rows.as";
import { SCORE_STRIDE, scores } from "./scores.as";
import { softmaxRow } from "./softmax.as";
import { convertScaledTile, convertTile } from "./tile.as";
import { touchRows } from "./touch.as";
import { weightedSum } from "./weighted-sum.as";

const QUERY: usize = 0; // pointer, token stride, head stride, column stride, dtype (0 f32, 1 f16, 2 bf16, 3 f8e4m3)
const KEY: usize = 20; // pointer, block stride, offset stride, head stride
const VALUE: usize = 36;
const TABLE: usize = 52; // block table: pointer, row stride, column stride
const SEQUENCES: usize = 64; // pointers to one i32 per token
const STARTS: usize = 68;
const ENDS: usize = 72;
const TOKENS: usize = 76;
const QUERY_HEADS: usize = 80;
const KEY_DIM: usize = 84;
const VALUE_DIM: usize = 88;
const BLOCK_SIZE: usize = 92;
const GROUP_SIZE: usize = 96;
const GROUP_OFFSET: usize = 100;
const SCALE: usize = 104; // f32; scores are in units of ln 2
const SOFTCAP: usize = 108; // f32, in units of ln 2; 0 for none
const OUT: usize = 112; // pointer, token stride, head stride, column stride
const LSE: usize = 128; // pointer, token stride, head stride
const MAX_ROWS: usize = 140;
const TILE_KEYS: usize = 144; // multiple of 4, at most 128
const Q_ROWS: usize = 148; // scratch: maxRows x padded key dim
const O_ROWS: usize = 152; // maxRows x padded value dim
const S_ROWS: usize = 156; // maxRows x SCORE_STRIDE bytes
const STATE: usize = 160; // maxRows x (max, sum, rescale, first visible key of the tile, one past the last)
const POINTERS: usize = 164; // tileKeys pointers each to key rows, value rows, tile rows, and the scales of both
const TILE: usize = 168; // KV heads x tileKeys x the larger padded dim: keys, later values, as f32
const TOUCHED: usize = 172; // what touchRows read
const SINKS: usize = 176; // one f32 per query head, in units of ln 2; 0 for none
const KEY_SCALES: usize = 180; // one f32 per KV head; 0 for none
const VALUE_SCALES: usize = 184;
const SPREAD: usize = 188; // scratch of weightedSum: 4 x SPREAD_STRIDE bytes, then 4 x padded value dim
// One f32 per row of the keys: pointer (0 for none), block stride, offset stride, head stride.
const KEY_ROW_SCALES: usize = 192;
const VALUE_ROW_SCALES: usize = 208;
const SUMS: usize = 224; // continued sums of every row: pointer (0 for none), token and head strides
const SUMS_FIRST: usize = 236; // 1 where sums begin, 0 where they go on
const SUMS_LAST: usize = 240; // 1 where they end in out and lse, 0 where they are kept

const STATE_BYTES: i32 = 20;
/** KV heads that share a tile; one more where a pass begins within a group. */
const MAX_TILE_HEADS: i32 = 16;
const LN_2: f32 = 0.69314718055994531;

// @ts-ignore: decorator
@inline
function pad4(dim: i32): i32 {
  return (dim + 3) & ~3;
}

// @ts-ignore: decorator
@inline
function attend<T>(p: usize): void {
  const tokens = load<i32>(p, TOKENS);
  const queryHeads = load<i32>(p, QUERY_HEADS);
  const size = load<i32>(p, GROUP_SIZE);
  const offset = load<i32>(p, GROUP_OFFSET);
  const maxRows = load<i32>(p, MAX_ROWS);
  const tokensPerPass = max(1, maxRows / min(size, queryHeads));
  let token = 0;
  while (token < tokens) {
    const sequence = load<i32>(load<u32>(p, SEQUENCES) + token * 4);
    let start = load<i32>(load<u32>(p, STARTS) + token * 4);
    let end = load<i32>(load<u32>(p, ENDS) + token * 4);
    let last = token + 1;
    // Tokens join while what they see touches: every key in between is then seen by one of them.
    while (last < tokens && last - token < tokensPerPass && start < end) {
      const nextStart = load<i32>(load<u32>(p, STARTS) + last * 4);
      const nextEnd = load<i32>(load<u32>(p, ENDS) + last * 4);
      if (load<i32>(load<u32>(p, SEQUENCES) + last * 4) != sequence) break;
      if (nextStart >= nextEnd || nextStart > end || nextEnd < start) break;
      start = min(start, nextStart);
      end = max(end, nextEnd);
      last++;
    }
    const headsPerPass = max(1, min(maxRows / (last - token), size * MAX_TILE_HEADS));
    let head = 0;
    while (head < queryHeads) {
      let stop = min(queryHeads, head + headsPerPass);
      // Whole groups, if one fits.
      const boundary = ((stop + offset) / size) * size - offset;
      if (stop < queryHeads && boundary > head) stop = boundary;
      pass<T>(p, token, last - token, head, stop, sequence, start, end);
      head = stop;
    }
    token = last;
  }
}

/** Rows of `tokenCount` tokens and heads [head, stop) against keys [start, end). */
function pass<T>(
  p: usize,
  token: i32,
  tokenCount: i32,
  head: i32,
  stop: i32,
  sequence: i32,
  start: i32,
  end: i32,
): void {
  const size = load<i32>(p, GROUP_SIZE);
  const groupOffset = load<i32>(p, GROUP_OFFSET);
  const firstKvHead = (head + groupOffset) / size;
  const lastKvHead = (stop - 1 + groupOffset) / size;
  const goesOn = load<u32>(p, SUMS) != 0 && load<u32>(p, SUMS_FIRST) == 0;
  const isKept = load<u32>(p, SUMS) != 0 && load<u32>(p, SUMS_LAST) == 0;
  if (goesOn && isKept && start >= end) return;
  const keyDim = load<i32>(p, KEY_DIM);
  const valueDim = load<i32>(p, VALUE_DIM);
  const keyBytes = pad4(keyDim) * 4;
  const valueBytes = pad4(valueDim) * 4;
  const tileKeys = load<i32>(p, TILE_KEYS);
  const softcap = load<f32>(p, SOFTCAP);
  const sinks: usize = load<u32>(p, SINKS);
  const qRows: usize = load<u32>(p, Q_ROWS);
  const oRows: usize = load<u32>(p, O_ROWS);
  const sRows: usize = load<u32>(p, S_ROWS);
  const states: usize = load<u32>(p, STATE);
  const keyRows: usize = load<u32>(p, POINTERS);
  const valueRows = keyRows + tileKeys * 4;
  const tileRows = valueRows + tileKeys * 4;
  const keyScaleRows = load<u32>(p, KEY_ROW_SCALES) == 0 ? 0 : tileRows + tileKeys * 4;
  const valueScaleRows = load<u32>(p, VALUE_ROW_SCALES) == 0 ? 0 : tileRows + tileKeys * 8;
  const tile: usize = load<u32>(p, TILE);
  const spread: usize = load<u32>(p, SPREAD);
  const tileBytes = max(keyBytes, valueBytes);
  const convertsKeys = !isFloat<T>() || (keyDim & 3) != 0;
  // Values are read once for every four rows: from a tile, unless that is only once. (Rows of a cache often lie a power
  // of two apart, where few of them fit the L1 cache at a time.)
  const rowsPerHead = tokenCount * min(size, stop - head);
  const convertsValues = !isFloat<T>() || (valueDim & 3) != 0 || rowsPerHead > 4;
  // MLA: the values are the first columns of the keys, all of which a tile of keys holds.
  const sameScales = i32x4.eq(v128.load(p, KEY_ROW_SCALES), v128.load(p, VALUE_ROW_SCALES));
  const sameRows = v128.and(i32x4.eq(v128.load(p, KEY), v128.load(p, VALUE)), sameScales);
  const sharedRows = convertsKeys && valueDim <= keyDim && v128.all_true<i32>(sameRows);
  const paired = sizeof<T>() == 2 && ((keyDim | valueDim) & 7) == 0;
  const kvHeads = lastKvHead + 1 - firstKvHead;
  const tileStride = tileKeys * tileBytes;

  for (let kvHead = firstKvHead; kvHead <= lastKvHead; kvHead++) {
    const from = max(head, kvHead * size - groupOffset);
    const heads = min(stop, (kvHead + 1) * size - groupOffset) - from;
    let row = (from - head) * tokenCount;
    for (let index = 0; index < tokenCount; index++) {
      let at: usize = load<u32>(p, QUERY) + (token + index) * load<u32>(p, QUERY + 4) + from * load<u32>(p, QUERY + 8);
      for (let next = row + heads; row < next; row++) {
        const scale = load<f32>(p, SCALE) * headScale(p, KEY_SCALES, kvHead);
        loadQueryRow(at, load<u32>(p, QUERY + 12), load<i32>(p, QUERY + 16), qRows + row * keyBytes, keyDim, scale);
        if (paired) pairRow(qRows + row * keyBytes, keyDim);
        at += load<u32>(p, QUERY + 8);
        const rowHead = from + row + heads - next;
        const state = states + row * STATE_BYTES;
        if (goesOn) {
          const sums = sumsOf(p, token + index, rowHead);
          memory.copy(oRows + row * valueBytes, sums, valueBytes);
          store<u64>(state, load<u64>(sums + valueBytes));
          continue;
        }
        // A sink is a first key whose value is 0. (A token that ends at -1 is padding.)
        const hasSink = sinks != 0 && load<i32>(load<u32>(p, ENDS) + (token + index) * 4) >= 0;
        const sink: f32 = hasSink ? load<f32>(sinks + rowHead * 4) : -Infinity;
        store<f32>(state, sink);
        store<f32>(state, sink == -Infinity ? 0 : 1, 4);
      }
    }
  }
  if (!goesOn) memory.fill(oRows, 0, (stop - head) * tokenCount * valueBytes);
  for (let key = 0; key < tileKeys; key++) store<u32>(tileRows + key * 4, <u32>(tile + key * tileBytes));

  // The first tile may begin after its boundary.
  let first = start;
  let border = start < end ? start - (start % tileKeys) : end;
  for (; border < end; first = border) {
    border += tileKeys;
    const count = min(border, end) - first;
    const padded = pad4(count);
    findRows(p, KEY, sequence, first, count, keyRows);
    findRows(p, VALUE, sequence, first, count, valueRows);
    for (let key = count; key < padded; key++) store<u32>(keyRows + key * 4, load<u32>(keyRows + (count - 1) * 4));
    const keyStride = load<u32>(p, KEY + 12);
    const keyOffset = firstKvHead * keyStride;
    let read: u32 = 0;
    if (convertsKeys) {
      const scaleStride = load<u32>(p, KEY_ROW_SCALES + 12);
      if (keyScaleRows != 0) {
        findRows(p, KEY_ROW_SCALES, sequence, first, count, keyScaleRows);
        read = convertScaledTile<T>(
          keyRows, count, keyOffset, keyStride, kvHeads, tile, tileBytes, tileStride, keyDim,
          keyScaleRows, firstKvHead * scaleStride, scaleStride,
        );
      } else {
        read = convertTile<T>(
          keyRows, count, keyOffset, keyStride, kvHeads, tile, tileBytes, tileStride, keyDim, paired,
        );
      }
    } else if (kvHeads > 1) {
      read = touchRows(keyRows, count, keyOffset, (kvHeads - 1) * keyStride + keyDim * sizeof<T>());
    }
    for (let kvHead = firstKvHead; kvHead <= lastKvHead; kvHead++) {
      const from = max(head, kvHead * size - groupOffset);
      const heads = min(stop, (kvHead + 1) * size - groupOffset) - from;
      const row = (from - head) * tokenCount;
      const rows = heads * tokenCount;
      const state = states + row * STATE_BYTES;
      const weights = sRows + row * <i32>SCORE_STRIDE;
      writeVisible(p, token, tokenCount, heads, first, count, state);
      const q = qRows + row * keyBytes;
      if (convertsKeys) scores(q, rows, tileRows, (kvHead - firstKvHead) * tileStride, padded, keyBytes, weights);
      else scores(q, rows, keyRows, kvHead * keyStride, padded, keyBytes, weights);
      for (let index = 0; index < rows; index++) {
        softmaxRow(weights + index * <i32>SCORE_STRIDE, padded, state + index * STATE_BYTES, softcap);
      }
    }
    const valueStride = load<u32>(p, VALUE + 12);
    const valueOffset = firstKvHead * valueStride;
    if (convertsValues && !sharedRows) {
      const scaleStride = load<u32>(p, VALUE_ROW_SCALES + 12);
      if (valueScaleRows != 0) {
        findRows(p, VALUE_ROW_SCALES, sequence, first, count, valueScaleRows);
        read ^= convertScaledTile<T>(
          valueRows, count, valueOffset, valueStride, kvHeads, tile, tileBytes, tileStride, valueDim,
          valueScaleRows, firstKvHead * scaleStride, scaleStride,
        );
      } else {
        read ^= convertTile<T>(
          valueRows, count, valueOffset, valueStride, kvHeads, tile, tileBytes, tileStride, valueDim, paired,
        );
      }
    } else if (!convertsValues && kvHeads > 1) {
      read ^= touchRows(valueRows, count, valueOffset, (kvHeads - 1) * valueStride + valueDim * sizeof<T>());
    }
    store<u32>(p, read, TOUCHED);
    for (let kvHead = firstKvHead; kvHead <= lastKvHead; kvHead++) {
      const from = max(head, kvHead * size - groupOffset);
      const heads = min(stop, (kvHead + 1) * size - groupOffset) - from;
      const row = (from - head) * tokenCount;
      const rows = heads * tokenCount;
      const state = states + row * STATE_BYTES;
      const weights = sRows + row * <i32>SCORE_STRIDE;
      const o = oRows + row * valueBytes;
      const offset = (kvHead - firstKvHead) * tileStride;
      if (convertsValues) weightedSum(weights, rows, tileRows, offset, o, valueBytes, state, spread);
      else weightedSum(weights, rows, valueRows, kvHead * valueStride, o, valueBytes, state, spread);
    }
  }

  for (let kvHead = firstKvHead; kvHead <= lastKvHead; kvHead++) {
    const from = max(head, kvHead * size - groupOffset);
    const heads = min(stop, (kvHead + 1) * size - groupOffset) - from;
    let row = (from - head) * tokenCount;
    const scale = headScale(p, VALUE_SCALES, kvHead);
    for (let index = token; index < token + tokenCount; index++) {
      for (let rowHead = from; rowHead < from + heads; rowHead++) {
        const o = oRows + row * valueBytes;
        const state = states + row * STATE_BYTES;
        row++;
        if (isKept) {
          const sums = sumsOf(p, index, rowHead);
          memory.copy(sums, o, valueBytes);
          store<u64>(sums + valueBytes, load<u64>(state));
          continue;
        }
        if (paired) unpairRow(o, valueDim);
        writeRow(p, index, rowHead, o, state, valueDim, scale);
      }
    }
  }
}

/** Where a row's sums go on from call to call: its weighted values as they lie in scratch, its maximum and its sum. */
// @ts-ignore: decorator
@inline
function sumsOf(p: usize, token: i32, head: i32): usize {
  return load<u32>(p, SUMS) + token * load<u32>(p, SUMS + 4) + head * load<u32>(p, SUMS + 8);
}

/** What an element of a KV head stands for, by KEY_SCALES or VALUE_SCALES; 1 when there are no scales. */
// @ts-ignore: decorator
@inline
function headScale(p: usize, scales: usize, kvHead: i32): f32 {
  const table: usize = load<u32>(p + scales);
  return table == 0 ? 1 : load<f32>(table + kvHead * 4);
}

/**
 * Pointers to KV head 0 of `count` rows of a cache (KEY, VALUE, or the scales of either) from local index `first` on.
 */
function findRows(p: usize, cache: usize, sequence: i32, first: i32, count: i32, rows: usize): void {
  const blockSize = load<i32>(p, BLOCK_SIZE);
  const base: usize = load<u32>(p + cache);
  const blockStride = load<u32>(p + cache, 4);
  const offsetStride = load<u32>(p + cache, 8);
  const columnStride = load<u32>(p, TABLE + 8);
  let entry: usize = load<u32>(p, TABLE) + sequence * load<u32>(p, TABLE + 4) + (first / blockSize) * columnStride;
  let offset = first % blockSize;
  let key = 0;
  while (key < count) {
    let row = base + load<u32>(entry) * blockStride + offset * offsetStride;
    const stop = min(count, key + blockSize - offset);
    for (; key < stop; key++) {
      store<u32>(rows + key * 4, <u32>row);
      row += offsetStride;
    }
    entry += columnStride;
    offset = 0;
  }
}

/** Which keys of the tile each row of a KV head sees, into the rows' states. */
function writeVisible(
  p: usize,
  token: i32,
  tokenCount: i32,
  heads: i32,
  first: i32,
  count: i32,
  state: usize,
): void {
  for (let index = token; index < token + tokenCount; index++) {
    const from = min(count, max(0, load<i32>(load<u32>(p, STARTS) + index * 4) - first));
    const stop = max(from, min(count, load<i32>(load<u32>(p, ENDS) + index * 4) - first));
    for (let row = 0; row < heads; row++) {
      store<i32>(state, from, 12);
      store<i32>(state, stop, 16);
      state += STATE_BYTES;
    }
  }
}

/** The row's LSE, and its output: the sums over the total weight, times the values' scale; 0 when nothing was seen. */
function writeRow(p: usize, token: i32, head: i32, row: usize, state: usize, dim: i32, scale: f32): void {
  const sum = load<f32>(state, 4);
  const lse = load<f32>(state) * LN_2 + f32x4.extract_lane(log4(f32x4.splat(sum)), 0);
  const lseAt: usize = load<u32>(p, LSE) + token * load<u32>(p, LSE + 4) + head * load<u32>(p, LSE + 8);
  store<f32>(lseAt, sum == 0 ? -Infinity : lse);
  const out: usize = load<u32>(p, OUT) + token * load<u32>(p, OUT + 4) + head * load<u32>(p, OUT + 8);
  storeOut(row, sum, out, load<u32>(p, OUT + 12), dim, scale);
}

export function partialAttention_f32(p: usize): void {
  attend<f32>(p);
}

export function partialAttention_f16(p: usize): void {
  attend<F16>(p);
}

export function partialAttention_f8e4m3(p: usize): void {
  attend<F8>(p);
}

export function partialAttention_i8(p: usize): void {
  attend<I8>(p);
}

export function partialAttention_bf16(p: usize): void {
  attend<BF16>(p);
}
