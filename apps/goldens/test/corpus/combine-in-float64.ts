// The combination of partial attention states in float64, as its formula says, and as mistakes have it.
import { exp, exp2, log, log2 } from "./portable-math.ts";

/** Base of LSEs. */
export type Base = "e" | "2";

/** What becomes of an LSE that is NaN or +inf: its rank counts as empty, or the row becomes NaN. */
export type NonFiniteRule = "drop" | "propagate";

const POWER = { e: exp, "2": exp2 } as const;
const LOG = { e: log, "2": log2 } as const;

/** The weight of each state, and the LSE over all, of one row. `mistake` is a name of MISTAKES, or undefined. */
export function combineWeights(
  lses: readonly number[],
  base: Base,
  rule: NonFiniteRule,
  mistake?: string,
): { weights: number[]; lse: number } {
  const isNonFinite = (lse: number): boolean => Number.isNaN(lse) || lse === Number.POSITIVE_INFINITY;
  const isKept = (rule === "propagate" && mistake !== "bad-shard-dropped") || mistake === "non-finite-lse-kept";
  if (isKept && lses.some(isNonFinite)) return { weights: lses.map(() => Number.NaN), lse: Number.NaN };
  const clean = lses.map((lse) => (isNonFinite(lse) ? Number.NEGATIVE_INFINITY : lse));
  const used = mistake === "lse-base-swapped" ? (base === "e" ? "2" : "e") : base;
  const [power, logarithm] = [POWER[used], LOG[used]];
  if (mistake === "no-max-subtraction") {
    const powers = clean.map((lse) => Math.fround(power(lse)));
    const sum = Math.fround(powers.reduce((total, item) => total + item, 0));
    return { weights: powers.map((item) => item / sum), lse: sum < 1e-37 ? log(0) : logarithm(sum) };
  }
  const most = Math.max(...clean);
  if (most === Number.NEGATIVE_INFINITY) {
    const isNan = mistake === "empty-row-nan";
    return { weights: clean.map(() => (isNan ? Number.NaN : 0)), lse: isNan ? Number.NaN : most };
  }
  const lse = most + logarithm(clean.reduce((sum, item) => sum + power(item - most), 0));
  const weights = clean.map((item) => power(item - lse));
  if (mistake === "mean-weights") return { weights: clean.map(() => 1 / clean.length), lse };
  if (mistake === "unweighted-sum") return { weights: clean.map(() => 1), lse };
  return { weights, lse: mistake === "lse-of-one-rank" ? most : lse };
}

/** Partial states of N ranks: `outs` [N, rows, dim] and `lses` [N, rows]. */
export interface States {
  readonly ranks: number;
  readonly rows: number;
  readonly dim: number;
  readonly outs: ArrayLike<number>;
  readonly lses: ArrayLike<number>;
}

/** Each state times its weight [N, rows, dim], their sum [rows, dim] and the LSE over all [rows]. */
export function combineStates(
  { ranks, rows, dim, outs, lses }: States,
  base: Base,
  rule: NonFiniteRule,
  mistake?: string,
): { corrected: Float64Array; out: Float64Array; lse: Float64Array } {
  const corrected = new Float64Array(ranks * rows * dim);
  const out = new Float64Array(rows * dim);
  const lse = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const own = Array.from({ length: ranks }, (_, rank) => lses[rank * rows + row] ?? Number.NaN);
    const combined = combineWeights(own, base, rule, mistake);
    lse[row] = combined.lse;
    for (let rank = 0; rank < ranks; rank++) {
      const from = mistake === "swapped-ranks" ? (rank + 1) % ranks : rank;
      const weight = combined.weights[from] ?? Number.NaN;
      const isEmpty = rule === "drop" ? weight === 0 : own[from] === Number.NEGATIVE_INFINITY && weight === 0;
      const isKept = mistake === "empty-rank-output-kept";
      for (let column = 0; column < dim; column++) {
        const at = (rank * rows + row) * dim + column;
        const product = isEmpty && !isKept ? 0 : weight * (outs[at] ?? Number.NaN);
        corrected[at] = product;
        out[row * dim + column] = (out[row * dim + column] ?? 0) + product;
      }
    }
  }
  return { corrected, out, lse };
}
