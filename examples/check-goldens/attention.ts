// The implementation that is to be checked: attention in float64, as plainly as it can be said. Put yours here.

export interface Case {
  /** Tokens of each sequence. The last one of each attends to all of them. */
  readonly lens: readonly number[];
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Rows are tokens, then heads; a row of a head has `headDim` numbers. */
export interface Attention {
  readonly out: Float64Array;
  readonly lse: Float64Array;
}

/** Attention of each sequence's query over its keys, and the log of the sum of the exponentials of its scores. */
export function attend(c: Case, query: Float64Array, keys: Float64Array, values: Float64Array): Attention {
  const { lens, queryHeads, kvHeads, headDim } = c;
  const out = new Float64Array(lens.length * queryHeads * headDim);
  const lse = new Float64Array(lens.length * queryHeads).fill(Number.NEGATIVE_INFINITY);
  let first = 0;
  for (const [sequence, length] of lens.entries()) {
    for (let head = 0; length > 0 && head < queryHeads; head++) {
      const row = sequence * queryHeads + head;
      const kvHead = Math.floor((head * kvHeads) / queryHeads);
      const at = (token: number): number => ((first + token) * kvHeads + kvHead) * headDim;
      const q = query.subarray(row * headDim, (row + 1) * headDim);
      const scores = Array.from({ length }, (_, token) => dot(q, keys.subarray(at(token))) / Math.sqrt(headDim));
      const most = Math.max(...scores);
      const total = scores.reduce((sum, score) => sum + Math.exp(score - most), 0);
      lse[row] = most + Math.log(total);
      for (const [token, score] of scores.entries()) {
        const weight = Math.exp(score - most) / total;
        for (let d = 0; d < headDim; d++) {
          const place = row * headDim + d;
          out[place] = (out[place] ?? 0) + weight * (values[at(token) + d] ?? 0);
        }
      }
    }
    first += length;
  }
  return { out, lse };
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, element, index) => sum + element * (b[index] ?? 0), 0);
}
