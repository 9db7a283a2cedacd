// Keys and values of a context of any length, out of few different rows: what attention over them gives is known in
// float64 at once, since the weight of each row is counted instead of summed.
import { float16ToNumber, numberToFloat16 } from "@lockstep/tensor";

/** A context, the same on every rank. */
export interface CapacityShape {
  readonly layers: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly tokens: number;
}

/** Different rows of keys, and of values: prime, so that no pattern of blocks and ranks meets the same ones. */
const ROWS = 1021;
/** Tokens that weigh so much that the loss of one shows. */
const NEEDLES = 7;

/** Rows of numbers that f16 holds exactly, one after another. */
export interface BaseRows {
  readonly numbers: Float64Array;
  /** Their f16 bits. */
  row(index: number): Uint16Array;
}

/** Row of the keys of a token. */
export function keyRow(shape: CapacityShape, layer: number, head: number, position: number): number {
  return isNeedle(shape, position) ? ROWS + head : (position * 31 + layer * 101 + head * 53) % ROWS;
}

/** Row of the values of a token. */
export function valueRow(_: CapacityShape, layer: number, head: number, position: number): number {
  return (position * 17 + layer * 89 + head * 211 + 3) % ROWS;
}

/** The first and the last token, and some between them. */
function isNeedle({ tokens }: CapacityShape, position: number): boolean {
  const step = Math.max(1, Math.floor((tokens - 1) / (NEEDLES - 1)));
  return position === tokens - 1 || (position % step === 0 && position / step < NEEDLES - 1);
}

/** Queries of all heads; keys, with one row more for each KV head that its queries look for; or values. */
export function baseRows(shape: CapacityShape, kind: "query" | "key" | "value"): BaseRows {
  const { headDim, queryHeads, kvHeads } = shape;
  const plain = kind === "query" ? queryHeads : ROWS;
  const numbers = new Float64Array((plain + (kind === "key" ? kvHeads : 0)) * headDim);
  const next = normals({ query: 11, key: 22, value: 33 }[kind]);
  for (let at = 0; at < plain * headDim; at++) numbers[at] = half(next());
  if (kind === "key") {
    const queries = baseRows(shape, "query").numbers;
    const group = queryHeads / kvHeads;
    for (let head = 0; head < kvHeads; head++) {
      for (let column = 0; column < headDim; column++) {
        let sum = 0;
        for (let query = head * group; query < (head + 1) * group; query++) {
          sum += queries[query * headDim + column] ?? 0;
        }
        numbers[(plain + head) * headDim + column] = half(sum);
      }
    }
  }
  const bits = Uint16Array.from(numbers, numberToFloat16);
  return { numbers, row: (index) => bits.subarray(index * headDim, (index + 1) * headDim) };
}

/** Attention of a query head over the whole context of a layer in float64: its output, and its natural LSE. */
export function referenceAttention(
  shape: CapacityShape,
  layer: number,
  queryHead: number,
): { readonly out: Float64Array; readonly lse: number } {
  const { headDim, queryHeads, kvHeads, tokens } = shape;
  const head = Math.floor(queryHead / (queryHeads / kvHeads));
  const queries = baseRows(shape, "query").numbers;
  const keys = baseRows(shape, "key").numbers;
  const values = baseRows(shape, "value").numbers;
  const scores = new Float64Array(keys.length / headDim);
  for (let row = 0; row < scores.length; row++) {
    let sum = 0;
    for (let column = 0; column < headDim; column++) {
      sum += (queries[queryHead * headDim + column] ?? 0) * (keys[row * headDim + column] ?? 0);
    }
    scores[row] = sum / Math.sqrt(headDim);
  }
  const most = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - most));
  const ofValue = new Float64Array(ROWS);
  let total = 0;
  for (let position = 0; position < tokens; position++) {
    const weight = weights[keyRow(shape, layer, head, position)] ?? 0;
    total += weight;
    const row = valueRow(shape, layer, head, position);
    ofValue[row] = (ofValue[row] ?? 0) + weight;
  }
  const out = new Float64Array(headDim);
  for (let row = 0; row < ROWS; row++) {
    const share = (ofValue[row] ?? 0) / total;
    for (let column = 0; column < headDim; column++) {
      out[column] = (out[column] ?? 0) + share * (values[row * headDim + column] ?? 0);
    }
  }
  return { out, lse: Math.log(total) + most };
}

function half(value: number): number {
  return float16ToNumber(numberToFloat16(value));
}

/** Repeatable numbers of a normal distribution: sums of twelve uniform ones. */
function normals(seed: number): () => number {
  let state = seed;
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / 2 ** 24;
  };
  return () => {
    let sum = -6;
    for (let times = 0; times < 12; times++) sum += uniform();
    return sum;
  };
}
