/** Keys and values of one sequence for one float64 attention: rows [length][Hkv][D]. */
export interface ReferenceSequence {
  readonly keys: readonly (readonly Float64Array[])[];
  readonly values: readonly (readonly Float64Array[])[];
}

/** What decides a query's result besides the numbers. */
export interface ReferenceVariant {
  readonly scale: number;
  readonly softcap?: number;
  readonly window?: number;
  /** A logit per query head that joins the denominator. */
  readonly sinks?: ArrayLike<number>;
  /** Query heads per KV head. */
  readonly headsPerKv: number;
}

/** Attention of one query row (head `head`, position `position`) in float64, as the formula says. */
export function attendInFloat64(
  query: Float64Array,
  head: number,
  position: number,
  sequence: ReferenceSequence,
  variant: ReferenceVariant,
): { out: Float64Array; lse: number } {
  const kvHead = Math.floor(head / variant.headsPerKv);
  const first = variant.window === undefined ? 0 : Math.max(0, position - variant.window + 1);
  const valueDim = sequence.values[0]?.[kvHead]?.length ?? 0;
  const scores: number[] = [];
  for (let index = first; index <= position; index++) {
    const key = sequence.keys[index]?.[kvHead] ?? new Float64Array();
    let score = 0;
    for (let dim = 0; dim < query.length; dim++) score += (query[dim] ?? 0) * (key[dim] ?? 0);
    score *= variant.scale;
    if (variant.softcap !== undefined) score = variant.softcap * Math.tanh(score / variant.softcap);
    scores.push(score);
  }
  const out = new Float64Array(valueDim);
  if (scores.length === 0) return { out, lse: Number.NEGATIVE_INFINITY };
  const sink = variant.sinks?.[head] ?? Number.NEGATIVE_INFINITY;
  const max = Math.max(sink, ...scores);
  const sum = scores.reduce((total, score) => total + Math.exp(score - max), Math.exp(sink - max));
  for (const [offset, score] of scores.entries()) {
    const weight = Math.exp(score - max) / sum;
    const value = sequence.values[first + offset]?.[kvHead] ?? out;
    for (let dim = 0; dim < valueDim; dim++) out[dim] = (out[dim] ?? 0) + weight * (value[dim] ?? 0);
  }
  return { out, lse: max + Math.log(sum) };
}
