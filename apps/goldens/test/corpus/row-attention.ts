// Attention of one query row over some keys in float64, as defined and as mistakes have it.
import type { OpParameters } from "./corpus-values.ts";
import { exp, log, tanh } from "./portable-math.ts";

/** Heads and sizes of their rows. */
export interface HeadShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly keyDim: number;
  /** Of a stored row of values, of which MLA takes a part. */
  readonly rowDim: number;
  readonly valueDim: number;
  /** Values are columns of the keys. */
  readonly isMla: boolean;
}

/** Rows of keys [rows, Hkv, Dk] and values [rows, Hkv, rowDim]. */
export interface KeyRows {
  readonly keys: ArrayLike<number>;
  readonly values: ArrayLike<number>;
  /** What a stored 1 of each row is worth [rows, Hkv]; undefined where heads have a scale, or nothing has. */
  readonly keyScales?: ArrayLike<number> | undefined;
  readonly valueScales?: ArrayLike<number> | undefined;
}

/** What a row is asked with. */
export interface QueryRow {
  /** [rows, Hq, Dk] */
  readonly query: ArrayLike<number>;
  readonly row: number;
  readonly head: number;
  /** A logit that joins the denominator; -inf for none. */
  readonly sink: number;
}

/** A state of attention: output [Dv] and natural LSE. */
export interface RowState {
  readonly out: Float64Array;
  readonly lse: number;
}

/** Attends to the rows `seen` of `source`, in their order. */
export function attendRow(
  p: OpParameters,
  shape: HeadShape,
  { query, row: asked, head, sink }: QueryRow,
  source: KeyRows,
  seen: readonly number[],
  mistake?: string,
): RowState {
  const { heads, kvHeads, keyDim, rowDim, valueDim, isMla } = shape;
  const out = new Float64Array(valueDim);
  const { size, offset } = p.head_group ?? { size: heads / kvHeads, offset: 0 };
  const shifted = mistake === "head-offset-missing" ? head : head + offset;
  const kvHead = mistake === "kv-head-modulo" ? head % kvHeads : Math.floor(shifted / size);
  const hasScales = mistake !== "kv-scale-missing";
  const keyScale = hasScales ? (p.key_scale?.[kvHead] ?? 1) : 1;
  const valueScale = hasScales ? ((isMla ? p.key_scale : p.value_scale)?.[kvHead] ?? 1) : 1;
  const scale = mistake === "scale-missing" ? 1 : (p.scale ?? 1 / Math.sqrt(keyDim));
  const scores = seen.map((token) => {
    let score = 0;
    for (let column = 0; column < keyDim; column++) {
      const element = query[(asked * heads + head) * keyDim + column] ?? Number.NaN;
      score += element * (source.keys[(token * kvHeads + kvHead) * keyDim + column] ?? Number.NaN);
    }
    score *= (hasScales ? (source.keyScales?.[token * kvHeads + kvHead] ?? keyScale) : 1) * scale;
    if (p.softcap !== undefined && mistake !== "softcap-missing") score = p.softcap * tanh(score / p.softcap);
    return mistake === "nan-key-hidden" && !Number.isFinite(score) ? Number.NEGATIVE_INFINITY : score;
  });
  if (mistake !== "nan-key-hidden" && scores.some((score) => !Number.isFinite(score))) {
    return { out: out.fill(Number.NaN), lse: Number.NaN };
  }
  const most = Math.max(sink, ...scores);
  if (most === Number.NEGATIVE_INFINITY) {
    if (mistake === "empty-row-nan") return { out: out.fill(Number.NaN), lse: Number.NaN };
    return { out, lse: mistake === "empty-lse-zero" ? 0 : most };
  }
  const sum = scores.reduce((total, score) => total + exp(score - most), exp(sink - most));
  const first = isMla && mistake === "mla-values-from-the-end" ? rowDim - valueDim : 0;
  for (const [index, score] of scores.entries()) {
    const weight = exp(score - most) / sum;
    const row = (seen[index] ?? 0) * kvHeads + kvHead;
    const worth = hasScales ? (source.valueScales?.[row] ?? valueScale) : 1;
    for (let column = 0; column < valueDim; column++) {
      const value = source.values[row * rowDim + first + column] ?? Number.NaN;
      out[column] = (out[column] ?? 0) + weight * worth * value;
    }
  }
  return { out, lse: most + log(sum) };
}
