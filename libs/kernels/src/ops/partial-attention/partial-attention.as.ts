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

import { BF16, F16, F8, I8 } from "../../wasm/dtype.as";
import { log4 } from "../../wasm/math.as";
import {
  ENDS, findRows, GROUP_OFFSET, GROUP_SIZE, headScale, KEY, KEY_DIM, KEY_ROW_SCALES, KEY_SCALES, LSE, O_ROWS, OUT,
  pad4, PASS, POINTERS, Q_ROWS, QUERY, S_ROWS, SCALE, SINKS, SOFTCAP, SPREAD, STATE, STATE_BYTES, SUMS, SUMS_FIRST,
  SUMS_LAST, TILE, TILE_KEYS, TOUCHED, VALUE, VALUE_DIM, VALUE_ROW_SCALES, VALUE_SCALES, writeVisible,
} from "./attention-table.as";
import { storeOut } from "./out-row.as";
import { beginPasses, nextPass } from "./passes.as";
import { loadQueryRow, pairRow, unpairRow } from "./rows.as";
import { SCORE_STRIDE, scores } from "./scores.as";
import { softmaxRow } from "./softmax.as";
import { convertScaledTile, convertTile } from "./tile.as";
import { touchRows } from "./touch.as";
import { weightedSum } from "./weighted-sum.as";

const LN_2: f32 = 0.69314718055994531;

// @ts-ignore: decorator
@inline
function attend<T>(p: usize): void {
  beginPasses(p);
  while (nextPass(p)) {
    const token = load<i32>(p, PASS);
    const tokenCount = load<i32>(p, PASS + 4);
    const head = load<i32>(p, PASS + 8);
    const stop = load<i32>(p, PASS + 12);
    const sequence = load<i32>(p, PASS + 16);
    pass<T>(p, token, tokenCount, head, stop, sequence, load<i32>(p, PASS + 20), load<i32>(p, PASS + 24));
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
