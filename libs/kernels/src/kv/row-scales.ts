// Scales of a quantised cache's rows: one for the key, or the value, of one token and KV head.
import type { DType } from "@lockstep/tensor";

/** The largest number of a quantised dtype: what the largest magnitude of a row becomes. */
const LARGEST: Partial<Record<DType, number>> = { f8e4m3: 448, i8: 127 };

/**
 * The smallest scale. Rows of smaller magnitudes become zeros, or coarser. Its inverse times a number that a GPU may
 * take for 0 rounds to 0 in either dtype.
 */
const SMALLEST = 2 ** -100;

/**
 * The scale of a row: its largest finite magnitude divided by 448 (f8e4m3) or 127 (i8), rounded toward 0 in f32, so
 * that no element that is stored stands for more than the row held; at least 2^-100. NaN and infinities do not count:
 * what else is in the row keeps its precision.
 */
export function rowScale(dtype: DType, row: ArrayLike<number>): number {
  let most = 0;
  for (let at = 0; at < row.length; at++) {
    const size = Math.abs(row[at] ?? 0);
    if (size > most && size !== Number.POSITIVE_INFINITY) most = size;
  }
  const largest = LARGEST[dtype] ?? Number.NaN;
  return Math.max(SMALLEST, dividedTowardZero(most, largest));
}

/** a / b rounded toward 0 to f32, for an f32 a from 0 on and a whole number b of up to 9 bits. */
function dividedTowardZero(a: number, b: number): number {
  const nearest = new Float32Array([a / b]);
  // Exact in float64.
  if ((nearest[0] ?? 0) * b > a) new Uint32Array(nearest.buffer)[0] = (new Uint32Array(nearest.buffer)[0] ?? 0) - 1;
  return nearest[0] ?? 0;
}
