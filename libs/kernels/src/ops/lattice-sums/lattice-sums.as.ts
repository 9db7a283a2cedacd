// latticeSums on the shared heap.
//
// Grid: the passes of partialAttention (passes.as.ts) and its tiles.
// Traffic: a tile's V rows are read once per pass and converted to f32 once; its K rows too, unless scores were kept.
// Sums stay in scratch, f64, and are written once, 8 bytes a column.
// Numerics: scores and weights as in partialAttention, but relative to the largest score of the whole context; sums on
// a lattice (lattice-rows.as.ts). A row adds only keys that it sees.

import { BF16, F16, F8, I8 } from "../../wasm/dtype.as";
import { exp2Negative4 } from "../../wasm/math.as";
import {
  BOUNDS, CONTINUES, ENDS, findRows, GROUP_SIZE, KEPT, KEY, KEY_DIM, KEY_ROW_SCALES, LATTICE, O_ROWS, pad4, PASS,
  POINTERS, ROW_SUMS, S_ROWS, SINKS, STARTS, STATE, STATE_BYTES, TILE, TILE_KEYS, TOUCHED, VALUE, VALUE_DIM,
  VALUE_ROW_SCALES, VALUE_SCALES, writeVisible,
} from "../partial-attention/attention-table.as";
import {
  beginScores, firstHeadOf, firstKvHeadOf, isPaired, lastHeadOf, lastKvHeadOf, placeTileRows, scoreTile, tileRowBytes,
} from "../partial-attention/pass-scores.as";
import { beginPasses, nextPass } from "../partial-attention/passes.as";
import { SCORE_STRIDE } from "../partial-attention/scores.as";
import { convertScaledTile, convertTile } from "../partial-attention/tile.as";
import { touchRows } from "../partial-attention/touch.as";
import { addRows, ROW_SUMS_BYTES } from "./lattice-tile.as";
import { sumsBytes } from "./lattice-rows.as";
import { joinWords, latticeOrigin, latticeStep, splitWords, WEIGHT_STEP } from "./lattice-words.as";

// A row's state: the largest score of the context, two words that are not used, the first key of the tile that it sees,
// one past the last.

// @ts-ignore: decorator
@inline
function sumUp<T>(p: usize): void {
  placeTileRows(p);
  beginPasses(p);
  while (nextPass(p)) sumPass<T>(p);
}

function sumPass<T>(p: usize): void {
  const start = load<i32>(p, PASS + 20);
  const end = load<i32>(p, PASS + 24);
  const tileKeys = load<i32>(p, TILE_KEYS);
  const isKept = load<u32>(p, KEPT) != 0;
  beginSums<T>(p);
  if (start < end && !isKept) beginScores<T>(p);
  // The first tile may begin after its boundary.
  let first = start;
  let border = start < end ? start - (start % tileKeys) : end;
  for (; border < end; first = border) {
    border += tileKeys;
    const count = min(border, end) - first;
    if (isKept) readKept(p, first, count);
    else scoreTile<T>(p, first, count);
    addValues<T>(p, first, count, !isKept);
  }
  endSums<T>(p);
}

/** Sums of what is there, or of nothing but the rows' sinks. */
function beginSums<T>(p: usize): void {
  const token = load<i32>(p, PASS);
  const tokenCount = load<i32>(p, PASS + 4);
  const columns = load<i32>(p, VALUE_DIM);
  const padded = pad4(columns);
  const continues = load<u32>(p, CONTINUES) != 0;
  const sinks: usize = continues ? 0 : load<u32>(p, SINKS);
  const last = lastKvHeadOf(p);
  let state: usize = load<u32>(p, STATE);
  let row: usize = load<u32>(p, ROW_SUMS);
  let sums: usize = load<u32>(p, O_ROWS);
  for (let kvHead = firstKvHeadOf(p); kvHead <= last; kvHead++) {
    const stop = lastHeadOf(p, kvHead);
    for (let index = token; index < token + tokenCount; index++) {
      for (let head = firstHeadOf(p, kvHead); head < stop; head++) {
        const at: usize = load<u32>(p, BOUNDS) + index * load<u32>(p, BOUNDS + 8) + head * load<u32>(p, BOUNDS + 12);
        const largest = load<f32>(at);
        const weighted = load<f32>(at + load<u32>(p, BOUNDS + 4));
        const exponent = load<f32>(at + 2 * load<u32>(p, BOUNDS + 4));
        const isFinite = abs(largest) < Infinity;
        const step = isFinite ? latticeStep(largest, weighted, exponent) : 1;
        const origin = latticeOrigin(step);
        store<f32>(state, largest);
        store<f64>(row, step);
        for (let column = 0; column < padded; column++) store<f64>(sums + column * 8, origin);
        store<f64>(row, latticeOrigin(WEIGHT_STEP), 16);
        store<f64>(row, latticeOrigin(WEIGHT_STEP), 24);
        if (continues) {
          goOn(wordsOf(p, index, head), columns, step, isPaired<T>(p), sums, row + 16);
        } else if (sinks != 0 && isFinite && load<i32>(load<u32>(p, ENDS) + index * 4) >= 0) {
          // A sink is a key whose value is 0. (A token that ends at -1 is padding.)
          const weight = exp2Negative4(f32x4.splat(load<f32>(sinks + head * 4) - largest));
          const wide = <f64>f32x4.extract_lane(weight, 0);
          const odd = wide == 0 ? 0 : reinterpret<f64>(reinterpret<u64>(wide) | (1 << 24));
          store<f64>(row, load<f64>(row, 16) + odd, 16);
        }
        state += STATE_BYTES;
        row += ROW_SUMS_BYTES;
        sums += sumsBytes(padded);
      }
    }
  }
}

/** The column at a place of a tile: where `paired`, of each eight columns those of even number come first. */
// @ts-ignore: decorator
@inline
function columnAt(place: i32, paired: bool): i32 {
  return paired ? (place & ~7) | ((place & 3) << 1) | ((place >> 2) & 1) : place;
}

/** Adds sums that are there, which lie in the order of the values' columns. */
function goOn(words: usize, columns: i32, step: f64, paired: bool, sums: usize, total: usize): void {
  for (let place = 0; place < columns; place++) {
    const sum = joinWords(words + columnAt(place, paired) * 8);
    store<f64>(sums + place * 8, load<f64>(sums + place * 8) + sum * step);
  }
  store<f64>(total, load<f64>(total) + joinWords(words + columns * 8) * WEIGHT_STEP);
}

// @ts-ignore: decorator
@inline
function wordsOf(p: usize, token: i32, head: i32): usize {
  return load<u32>(p, LATTICE) + token * load<u32>(p, LATTICE + 4) + head * load<u32>(p, LATTICE + 8);
}

/** The scores of a tile, as attentionBounds left them, and which of them each row sees. */
function readKept(p: usize, first: i32, count: i32): void {
  const token = load<i32>(p, PASS);
  const tokenCount = load<i32>(p, PASS + 4);
  const last = lastKvHeadOf(p);
  let state: usize = load<u32>(p, STATE);
  let row: usize = load<u32>(p, S_ROWS);
  for (let kvHead = firstKvHeadOf(p); kvHead <= last; kvHead++) {
    const from = firstHeadOf(p, kvHead);
    const stop = lastHeadOf(p, kvHead);
    writeVisible(p, token, tokenCount, stop - from, first, count, state);
    for (let index = token; index < token + tokenCount; index++) {
      const seen = load<i32>(load<u32>(p, STARTS) + index * 4);
      for (let head = from; head < stop; head++) {
        const rowFirst = load<i32>(state, 12);
        const rowStop = load<i32>(state, 16);
        const kept: usize = load<u32>(p, KEPT) + index * load<u32>(p, KEPT + 4) + head * load<u32>(p, KEPT + 8);
        if (rowFirst < rowStop) {
          memory.copy(row + rowFirst * 4, kept + (first + rowFirst - seen) * 4, (rowStop - rowFirst) * 4);
        }
        row += SCORE_STRIDE;
        state += STATE_BYTES;
      }
    }
  }
}

/** Adds the weighted values of a tile. `keysThere`: its keys, as f32, may lie in the tile. */
function addValues<T>(p: usize, first: i32, count: i32, keysThere: bool): void {
  const tokenCount = load<i32>(p, PASS + 4);
  const head = load<i32>(p, PASS + 8);
  const sequence = load<i32>(p, PASS + 16);
  const valueDim = load<i32>(p, VALUE_DIM);
  const keyDim = load<i32>(p, KEY_DIM);
  const columns = pad4(valueDim);
  const tileKeys = load<i32>(p, TILE_KEYS);
  const tile: usize = load<u32>(p, TILE);
  const tileBytes = tileRowBytes(p);
  const tileStride = tileKeys * tileBytes;
  const rows: usize = load<u32>(p, POINTERS) + tileKeys * 4;
  const tileRows = rows + tileKeys * 4;
  const scaleRows = rows + tileKeys * 12;
  const firstKvHead = firstKvHeadOf(p);
  const lastKvHead = lastKvHeadOf(p);
  const kvHeads = lastKvHead + 1 - firstKvHead;
  const stride = load<u32>(p, VALUE + 12);
  const offset = firstKvHead * stride;
  const headScales = load<u32>(p, VALUE_SCALES);
  const rowsPerHead = tokenCount * min(load<i32>(p, GROUP_SIZE), load<i32>(p, PASS + 12) - head);
  const converts = !isFloat<T>() || (valueDim & 3) != 0 || rowsPerHead > 4;
  // MLA: the values are the first columns of the keys, all of which a tile of keys holds, but for scales of heads.
  const convertsKeys = !isFloat<T>() || (keyDim & 3) != 0;
  const sameScales = i32x4.eq(v128.load(p, KEY_ROW_SCALES), v128.load(p, VALUE_ROW_SCALES));
  const sameRows = v128.and(i32x4.eq(v128.load(p, KEY), v128.load(p, VALUE)), sameScales);
  const inTile = keysThere && convertsKeys && headScales == 0 && valueDim <= keyDim && v128.all_true<i32>(sameRows);
  findRows(p, VALUE, sequence, first, count, rows);
  let read: u32 = load<u32>(p, TOUCHED);
  if (!converts) {
    if (kvHeads > 1) read ^= touchRows(rows, count, offset, (kvHeads - 1) * stride + valueDim * sizeof<T>());
  } else if (!inTile && sizeof<T>() == 1) {
    const hasRowScales = load<u32>(p, VALUE_ROW_SCALES) != 0;
    const scaleStride: u32 = hasRowScales ? load<u32>(p, VALUE_ROW_SCALES + 12) : 4;
    if (hasRowScales) findRows(p, VALUE_ROW_SCALES, sequence, first, count, scaleRows);
    else for (let key = 0; key < count; key++) store<u32>(scaleRows + key * 4, headScales);
    read ^= convertScaledTile<T>(
      rows, count, offset, stride, kvHeads, tile, tileBytes, tileStride, valueDim,
      scaleRows, firstKvHead * scaleStride, scaleStride,
    );
  } else if (!inTile) {
    const paired = isPaired<T>(p);
    read ^= convertTile<T>(rows, count, offset, stride, kvHeads, tile, tileBytes, tileStride, valueDim, paired);
  }
  store<u32>(p, read, TOUCHED);
  for (let kvHead = firstKvHead; kvHead <= lastKvHead; kvHead++) {
    const from = firstHeadOf(p, kvHead);
    const row = (from - head) * tokenCount;
    const rowCount = (lastHeadOf(p, kvHead) - from) * tokenCount;
    if (converts) addRows(p, row, rowCount, tileRows, (kvHead - firstKvHead) * tileStride, columns);
    else addRows(p, row, rowCount, rows, kvHead * stride, columns);
  }
}

/** Writes the rows' sums as words. */
function endSums<T>(p: usize): void {
  const token = load<i32>(p, PASS);
  const tokenCount = load<i32>(p, PASS + 4);
  const columns = load<i32>(p, VALUE_DIM);
  const padded = pad4(columns);
  const paired = isPaired<T>(p);
  const last = lastKvHeadOf(p);
  let row: usize = load<u32>(p, ROW_SUMS);
  let sums: usize = load<u32>(p, O_ROWS);
  for (let kvHead = firstKvHeadOf(p); kvHead <= last; kvHead++) {
    const stop = lastHeadOf(p, kvHead);
    for (let index = token; index < token + tokenCount; index++) {
      for (let head = firstHeadOf(p, kvHead); head < stop; head++) {
        const words = wordsOf(p, index, head);
        const step = load<f64>(row);
        const origin = latticeOrigin(step);
        const perStep = 1 / step;
        for (let place = 0; place < columns; place++) {
          splitWords((load<f64>(sums + place * 8) - origin) * perStep, words + columnAt(place, paired) * 8);
        }
        const weightOrigin = latticeOrigin(WEIGHT_STEP);
        const total = load<f64>(row, 16) - weightOrigin + (load<f64>(row, 24) - weightOrigin);
        splitWords(total / WEIGHT_STEP, words + columns * 8);
        row += ROW_SUMS_BYTES;
        sums += sumsBytes(padded);
      }
    }
  }
}

export function latticeSums_f32(p: usize): void {
  sumUp<f32>(p);
}

export function latticeSums_f16(p: usize): void {
  sumUp<F16>(p);
}

export function latticeSums_bf16(p: usize): void {
  sumUp<BF16>(p);
}

export function latticeSums_f8e4m3(p: usize): void {
  sumUp<F8>(p);
}

export function latticeSums_i8(p: usize): void {
  sumUp<I8>(p);
}
