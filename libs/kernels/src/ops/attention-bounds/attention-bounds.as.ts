// attentionBounds on the shared heap.
//
// Grid: the passes of partialAttention (passes.as.ts), its tiles, its scores.
// Traffic: a tile's K and V rows are read once per pass, V rows to find their largest magnitude in the dtype they have.
// Scores stay in scratch, or go to `KEPT`, f32, once.
// Numerics: scores as in partialAttention; maxima, which have no order. A row compares only keys that it sees.

import { BF16, F16, F8, I8 } from "../../wasm/dtype.as";
import {
  BOUNDS, CONTINUES, ENDS, EXPONENTS, findRows, headScale, KEPT, pad4, PASS, POINTERS, S_ROWS, SINKS, STARTS, STATE,
  STATE_BYTES, TILE_KEYS, VALUE, VALUE_DIM, VALUE_ROW_SCALES, VALUE_SCALES,
} from "../partial-attention/attention-table.as";
import {
  beginScores, firstHeadOf, firstKvHeadOf, lastHeadOf, lastKvHeadOf, placeTileRows, scoreTile,
} from "../partial-attention/pass-scores.as";
import { beginPasses, nextPass } from "../partial-attention/passes.as";
import { SCORE_STRIDE } from "../partial-attention/scores.as";
import { poison } from "../partial-attention/softmax.as";
import { valueExponent } from "./value-exponent.as";

// A row's state: its three bounds, the first key of the tile that it sees, one past the last.

// @ts-ignore: decorator
@inline
function bound<T>(p: usize): void {
  placeTileRows(p);
  beginPasses(p);
  while (nextPass(p)) boundPass<T>(p);
}

function boundPass<T>(p: usize): void {
  const start = load<i32>(p, PASS + 20);
  const end = load<i32>(p, PASS + 24);
  const tileKeys = load<i32>(p, TILE_KEYS);
  beginBounds(p);
  if (start < end) beginScores<T>(p);
  // The first tile may begin after its boundary.
  let first = start;
  let border = start < end ? start - (start % tileKeys) : end;
  for (; border < end; first = border) {
    border += tileKeys;
    const count = min(border, end) - first;
    scoreTile<T>(p, first, count);
    findExponents<T>(p, first, count);
    raiseBounds(p, first, pad4(count));
  }
  endBounds(p);
}

/** Bounds of nothing but the rows' sinks. */
function beginBounds(p: usize): void {
  const token = load<i32>(p, PASS);
  const tokenCount = load<i32>(p, PASS + 4);
  const sinks: usize = load<u32>(p, SINKS);
  const last = lastKvHeadOf(p);
  let state: usize = load<u32>(p, STATE);
  for (let kvHead = firstKvHeadOf(p); kvHead <= last; kvHead++) {
    const stop = lastHeadOf(p, kvHead);
    for (let index = token; index < token + tokenCount; index++) {
      // A token that ends at -1 is padding.
      const hasSink = sinks != 0 && load<i32>(load<u32>(p, ENDS) + index * 4) >= 0;
      for (let rowHead = firstHeadOf(p, kvHead); rowHead < stop; rowHead++) {
        store<f32>(state, hasSink ? load<f32>(sinks + rowHead * 4) : -Infinity);
        store<f32>(state, -Infinity, 4);
        store<f32>(state, -Infinity, 8);
        state += STATE_BYTES;
      }
    }
  }
}

/** How large the values of a tile are, KV head by KV head; -inf beyond them. */
function findExponents<T>(p: usize, first: i32, count: i32): void {
  const sequence = load<i32>(p, PASS + 16);
  const tileKeys = load<i32>(p, TILE_KEYS);
  const valueDim = load<i32>(p, VALUE_DIM);
  const rows: usize = load<u32>(p, POINTERS) + tileKeys * 4;
  const scaleRows = rows + tileKeys * 12;
  const hasRowScales = load<u32>(p, VALUE_ROW_SCALES) != 0;
  const scaleStride = load<u32>(p, VALUE_ROW_SCALES + 12);
  const stride = load<u32>(p, VALUE + 12);
  const firstKvHead = firstKvHeadOf(p);
  const lastKvHead = lastKvHeadOf(p);
  const exponents: usize = load<u32>(p, EXPONENTS);
  findRows(p, VALUE, sequence, first, count, rows);
  if (hasRowScales) findRows(p, VALUE_ROW_SCALES, sequence, first, count, scaleRows);
  for (let key = 0; key < count; key++) {
    const row: usize = load<u32>(rows + key * 4);
    let target = exponents + key * 4;
    for (let kvHead = firstKvHead; kvHead <= lastKvHead; kvHead++) {
      let scale: f32 = 1;
      if (hasRowScales) scale = load<f32>(<usize>load<u32>(scaleRows + key * 4) + kvHead * scaleStride);
      else if (sizeof<T>() == 1) scale = headScale(p, VALUE_SCALES, kvHead);
      store<f32>(target, valueExponent<T>(row + kvHead * stride, valueDim, scale));
      target += SCORE_STRIDE;
    }
  }
  const padded = pad4(count);
  for (let kvHead = 0; kvHead <= lastKvHead - firstKvHead; kvHead++) {
    const row = exponents + kvHead * <i32>SCORE_STRIDE;
    for (let key = count; key < padded; key++) store<f32>(row + key * 4, -Infinity);
  }
}

/** Takes a tile's scores into the rows' bounds, and keeps them if they are to be kept. */
function raiseBounds(p: usize, first: i32, padded: i32): void {
  const token = load<i32>(p, PASS);
  const tokenCount = load<i32>(p, PASS + 4);
  const kept: usize = load<u32>(p, KEPT);
  const firstKvHead = firstKvHeadOf(p);
  const lastKvHead = lastKvHeadOf(p);
  let row: usize = load<u32>(p, S_ROWS);
  let state: usize = load<u32>(p, STATE);
  let exponents: usize = load<u32>(p, EXPONENTS);
  for (let kvHead = firstKvHead; kvHead <= lastKvHead; kvHead++) {
    const from = firstHeadOf(p, kvHead);
    const stop = lastHeadOf(p, kvHead);
    for (let index = token; index < token + tokenCount; index++) {
      const seen = load<i32>(load<u32>(p, STARTS) + index * 4);
      for (let head = from; head < stop; head++) {
        const rowFirst = load<i32>(state, 12);
        const rowStop = load<i32>(state, 16);
        if (rowFirst < rowStop) {
          if (kept != 0) {
            const target = kept + index * load<u32>(p, KEPT + 4) + head * load<u32>(p, KEPT + 8);
            memory.copy(target + (first + rowFirst - seen) * 4, row + rowFirst * 4, (rowStop - rowFirst) * 4);
          }
          raiseRow(row, rowFirst, rowStop, padded, exponents, state);
        }
        row += SCORE_STRIDE;
        state += STATE_BYTES;
      }
    }
    exponents += SCORE_STRIDE;
  }
}

/** Takes the scores [first, stop) of `keys` (a multiple of 4) into a row's bounds. */
function raiseRow(row: usize, first: i32, stop: i32, keys: i32, exponents: usize, state: usize): void {
  const poisoned = poison(row, first, stop);
  if (poisoned != poisoned) {
    store<f32>(state, Infinity);
    return;
  }
  for (let key = 0; key < first; key++) store<f32>(row + key * 4, -Infinity);
  for (let key = stop; key < keys; key++) store<f32>(row + key * 4, -Infinity);
  const none = f32x4.splat(-Infinity);
  let scores = none;
  let weighted = none;
  let largest = none;
  for (let key = 0; key < keys; key += 4) {
    const score = v128.load(row + key * 4);
    const exponent = v128.load(exponents + key * 4);
    scores = f32x4.pmax(scores, score);
    weighted = f32x4.pmax(weighted, f32x4.add(score, exponent));
    largest = f32x4.pmax(largest, v128.bitselect(exponent, none, f32x4.gt(score, none)));
  }
  store<f32>(state, max(load<f32>(state), largestLane(scores)));
  store<f32>(state, max(load<f32>(state, 4), largestLane(weighted)), 4);
  store<f32>(state, max(load<f32>(state, 8), largestLane(largest)), 8);
}

// @ts-ignore: decorator
@inline
function largestLane(lanes: v128): f32 {
  const pairs = f32x4.pmax(lanes, v128.shuffle<f32>(lanes, lanes, 2, 3, 0, 1));
  return max(f32x4.extract_lane(pairs, 0), f32x4.extract_lane(pairs, 1));
}

/** Writes the rows' bounds, or the larger ones of them and of those that are there. */
function endBounds(p: usize): void {
  const token = load<i32>(p, PASS);
  const tokenCount = load<i32>(p, PASS + 4);
  const continues = load<u32>(p, CONTINUES) != 0;
  const last = lastKvHeadOf(p);
  let state: usize = load<u32>(p, STATE);
  for (let kvHead = firstKvHeadOf(p); kvHead <= last; kvHead++) {
    const stop = lastHeadOf(p, kvHead);
    for (let index = token; index < token + tokenCount; index++) {
      for (let head = firstHeadOf(p, kvHead); head < stop; head++) {
        let at: usize = load<u32>(p, BOUNDS) + index * load<u32>(p, BOUNDS + 8) + head * load<u32>(p, BOUNDS + 12);
        for (let kind = 0; kind < 3; kind++) {
          const found = load<f32>(state + kind * 4);
          store<f32>(at, continues ? max(load<f32>(at), found) : found);
          at += load<u32>(p, BOUNDS + 4);
        }
        state += STATE_BYTES;
      }
    }
  }
}

export function attentionBounds_f32(p: usize): void {
  bound<f32>(p);
}

export function attentionBounds_f16(p: usize): void {
  bound<F16>(p);
}

export function attentionBounds_bf16(p: usize): void {
  bound<BF16>(p);
}

export function attentionBounds_f8e4m3(p: usize): void {
  bound<F8>(p);
}

export function attentionBounds_i8(p: usize): void {
  bound<I8>(p);
}
