// Adds a tile's weighted values: O[row] = O[row] * rescale + sum over the keys a row sees of weight * value.
//
// Four rows at a time, see value-sums.as.ts.

import { SCORE_STRIDE } from "./scores.as";
import { addFourRows, addOneRow, addSums, fourRows, oneRow, SPREAD_STRIDE, spreadWeights } from "./value-sums.as";

/** Where the sums of four rows lie, after the weights of four rows in `spread`. */
const SUMS: usize = 4 * SPREAD_STRIDE;

/**
 * `valueRows` points to addresses of a tile's value rows, each to be moved by `offset`; `state` as in softmaxRow;
 * `spread` is scratch for four rows of spread-out weights and, behind them, of sums.
 *
 * Every row's sum takes its keys in order, from 0, whatever the rows beside it see: where they see other keys, sums go
 * through memory between the keys that only some see and those that all do.
 */
export function weightedSum(
  weights: usize,
  rows: i32,
  valueRows: usize,
  offset: usize,
  out: usize,
  rowBytes: i32,
  state: usize,
  spread: usize,
): void {
  let row = 0;
  for (; row + 4 <= rows; row += 4) {
    let first = 0;
    let stop = i32.MAX_VALUE;
    let earliest = i32.MAX_VALUE;
    let latest = 0;
    for (let index = row; index < row + 4; index++) {
      const rowFirst = load<i32>(state + index * 20, 12);
      const rowStop = load<i32>(state + index * 20, 16);
      first = max(first, rowFirst);
      stop = min(stop, rowStop);
      earliest = min(earliest, rowFirst);
      latest = max(latest, rowStop);
    }
    const w = weights + row * <i32>SCORE_STRIDE;
    const o = out + row * rowBytes;
    if (first >= stop) {
      for (let index = 0; index < 4; index++) wholeRow(w, index, valueRows, offset, o, rowBytes, state + row * 20);
      continue;
    }
    for (let index = 0; index < 4; index++) {
      spreadWeights(w + index * <i32>SCORE_STRIDE, spread + index * <i32>SPREAD_STRIDE, stop);
    }
    if (earliest == first && latest == stop) {
      fourRows(spread, valueRows, offset, first, stop, o, rowBytes, state + row * 20);
      continue;
    }
    memory.fill(spread + SUMS, 0, 4 * rowBytes);
    for (let index = 0; index < 4; index++) {
      const rowFirst = load<i32>(state + (row + index) * 20, 12);
      const sums = spread + SUMS + index * rowBytes;
      addOneRow(w + index * <i32>SCORE_STRIDE, valueRows, offset, rowFirst, first, sums, rowBytes);
    }
    addFourRows(spread, valueRows, offset, first, stop, spread + SUMS, rowBytes);
    for (let index = 0; index < 4; index++) {
      const sums = spread + SUMS + index * rowBytes;
      const rowState = state + (row + index) * 20;
      addOneRow(w + index * <i32>SCORE_STRIDE, valueRows, offset, stop, load<i32>(rowState, 16), sums, rowBytes);
      addSums(sums, o + index * rowBytes, rowBytes, load<f32>(rowState, 8));
    }
  }
  for (; row < rows; row++) wholeRow(weights, row, valueRows, offset, out, rowBytes, state);
}

function wholeRow(
  weights: usize,
  index: i32,
  valueRows: usize,
  offset: usize,
  out: usize,
  rowBytes: i32,
  state: usize,
): void {
  const rowState = state + index * 20;
  const first = load<i32>(rowState, 12);
  const stop = load<i32>(rowState, 16);
  if (first >= stop) return;
  const rowWeights = weights + index * <i32>SCORE_STRIDE;
  oneRow(rowWeights, valueRows, offset, first, stop, out + index * rowBytes, rowBytes, load<f32>(rowState, 8));
}
