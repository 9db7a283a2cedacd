import { expectHeapTensor } from "../../operand.ts";
import { type CorrectAttnOutArgs, checkCorrectAttnOut, type LseBase, type NonFinite } from "./index.ts";

/** correctAttnOut in float64. */
export function correctAttnOutReference(args: CorrectAttnOutArgs): void {
  checkCorrectAttnOut(args);
  const name = "correctAttnOut";
  const partialOut = expectHeapTensor(name, "partialOut", args.partialOut);
  const lses = expectHeapTensor(name, "lses", args.lses);
  const out = expectHeapTensor(name, "out", args.out);
  const lse = expectHeapTensor(name, "lse", args.lse);
  const base = args.base ?? "e";
  const rows = lse.size;
  const dim = partialOut.dim(2);
  const values = partialOut.toNumbers();
  const allLses = lses.toNumbers();
  const totals = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const rowLses = Array.from({ length: lses.dim(0) }, (_, rank) => allLses[rank * rows + row] ?? 0);
    const { lse: total, weights } = mergedStates(rowLses, base, args.nonFinite);
    const factor = weights[args.rank];
    for (let column = 0; column < dim; column++) {
      const index = row * dim + column;
      values[index] = factor === undefined ? 0 : (values[index] ?? 0) * factor;
    }
    totals[row] = total;
  }
  out.set(values);
  lse.set(totals);
}

/**
 * The LSE of states together, -inf when all are empty, and the weight base^(lse_i - lse) of each; undefined for a state
 * that is left out, whatever it holds. Weights are relative to the largest LSE, not to the sum: at 1e30 a sum loses the
 * count.
 */
export function mergedStates(
  lses: readonly number[],
  base: LseBase,
  nonFinite: NonFinite = "original",
): { lse: number; weights: (number | undefined)[] } {
  const isPoison = (lse: number): boolean => !(lse < Number.POSITIVE_INFINITY);
  if (nonFinite === "propagate" && lses.some(isPoison)) {
    return { lse: Number.NaN, weights: lses.map(() => Number.NaN) };
  }
  const counted = lses.filter(Number.isFinite);
  if (counted.length === 0) return { lse: Number.NEGATIVE_INFINITY, weights: lses.map(() => undefined) };
  const max = Math.max(...counted);
  const power = (lse: number): number => (base === "e" ? Math.exp(lse - max) : 2 ** (lse - max));
  const sum = counted.reduce((total, lse) => total + power(lse), 0);
  const weights = lses.map((lse) => {
    if (!Number.isFinite(lse)) return undefined;
    const weight = power(lse) / sum;
    if (Math.fround(weight) !== 0) return weight;
    return nonFinite === "original" ? undefined : 0;
  });
  return { lse: max + (base === "e" ? Math.log(sum) : Math.log2(sum)), weights };
}
