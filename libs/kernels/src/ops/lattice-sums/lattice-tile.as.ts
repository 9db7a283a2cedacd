// Adding a tile's weighted values to the rows of one KV head.

import { O_ROWS, ROW_SUMS, S_ROWS, SPREAD, STATE, STATE_BYTES } from "../partial-attention/attention-table.as";
import { SCORE_STRIDE } from "../partial-attention/scores.as";
import {
  latticeFourRows, latticeGroups, latticeOneRow, latticeWeights, ROWS_TOGETHER, sumsBytes, WEIGHT_STRIDE,
} from "./lattice-rows.as";

/** Of a row: the step of its lattice, f64; unused; two lanes of its sum of weights. */
export const ROW_SUMS_BYTES: i32 = 32;

/** From so many rows on, values become f64 once for all; below, that takes longer than to do it for every four. */
const PACKED_ROWS: i32 = 12;

/**
 * Adds values to `rowCount` rows of the pass, from `row` on. `valueRows` points to addresses of f32 rows of `columns`
 * elements, a multiple of 4, each to be moved by `offset`. A row whose score is not finite somewhere adds nothing.
 */
export function addRows(p: usize, row: i32, rowCount: i32, valueRows: usize, offset: usize, columns: i32): void {
  const weights: usize = load<u32>(p, SPREAD);
  const sumBytes = sumsBytes(columns);
  for (const end = row + rowCount; row < end; row += ROWS_TOGETHER) {
    const together = min(ROWS_TOGETHER, end - row);
    const state: usize = load<u32>(p, STATE) + row * STATE_BYTES;
    const sums: usize = load<u32>(p, O_ROWS) + row * sumBytes;
    weigh(p, row, together, weights);
    let done = 0;
    if (together >= PACKED_ROWS) {
      const whole = together & ~3;
      const first = firstCommon(state, whole);
      const stop = stopCommon(state, whole);
      if (first < stop) {
        latticeGroups(weights, whole >> 2, valueRows, offset, first, stop, sums, columns);
        addOthers(state, whole, weights, valueRows, offset, first, stop, sums, columns);
        done = whole;
      }
    }
    for (; done < together; done += 4) {
      const count = min(4, together - done);
      const rowState = state + done * STATE_BYTES;
      const w = weights + done * <i32>WEIGHT_STRIDE;
      const o = sums + done * sumBytes;
      let first = firstCommon(rowState, count);
      let stop = stopCommon(rowState, count);
      if (count == 4 && first < stop) latticeFourRows(w, valueRows, offset, first, stop, o, columns);
      else {
        first = i32.MAX_VALUE;
        stop = i32.MAX_VALUE;
      }
      addOthers(rowState, count, w, valueRows, offset, first, stop, o, columns);
    }
  }
}

/** Weights of `count` rows, and their sums. */
function weigh(p: usize, row: i32, count: i32, weights: usize): void {
  let scoreRow: usize = load<u32>(p, S_ROWS) + row * <i32>SCORE_STRIDE;
  let state: usize = load<u32>(p, STATE) + row * STATE_BYTES;
  let total: usize = load<u32>(p, ROW_SUMS) + row * ROW_SUMS_BYTES + 16;
  for (let index = 0; index < count; index++) {
    const first = load<i32>(state, 12);
    const stop = load<i32>(state, 16);
    if (!(abs(load<f32>(state)) < Infinity)) store<i32>(state, first, 16);
    else if (first < stop) latticeWeights(scoreRow, first, stop, load<f32>(state), weights, total);
    scoreRow += SCORE_STRIDE;
    state += STATE_BYTES;
    total += ROW_SUMS_BYTES;
    weights += WEIGHT_STRIDE;
  }
}

/** The first key that all of `count` rows see, if there is one. */
function firstCommon(state: usize, count: i32): i32 {
  let first = 0;
  for (let index = 0; index < count; index++) first = max(first, load<i32>(state + index * STATE_BYTES, 12));
  return first;
}

/** One past the last key that all of `count` rows see, if there is one. */
function stopCommon(state: usize, count: i32): i32 {
  let stop = i32.MAX_VALUE;
  for (let index = 0; index < count; index++) stop = min(stop, load<i32>(state + index * STATE_BYTES, 16));
  return stop;
}

/** Adds to `count` rows the keys that they see before `first` and from `stop` on. */
function addOthers(
  state: usize,
  count: i32,
  weights: usize,
  valueRows: usize,
  offset: usize,
  first: i32,
  stop: i32,
  sums: usize,
  columns: i32,
): void {
  for (let index = 0; index < count; index++) {
    const rowFirst = load<i32>(state, 12);
    const rowStop = load<i32>(state, 16);
    if (rowFirst < min(first, rowStop)) {
      latticeOneRow(weights, valueRows, offset, rowFirst, min(first, rowStop), sums, columns);
    }
    if (stop < rowStop) latticeOneRow(weights, valueRows, offset, stop, rowStop, sums, columns);
    state += STATE_BYTES;
    weights += WEIGHT_STRIDE;
    sums += sumsBytes(columns);
  }
}
