import { expectHeapTensor } from "../../operand.ts";
import { type CorrectAttnOutArgs, checkCorrectAttnOut, type LseBase } from "./index.ts";

/** correctAttnOut in float64. */
export function correctAttnOutReference(args: CorrectAttnOutArgs): void {
  checkCorrectAttnOut(args);
  const name = "correctAttnOut";
  const out = expectHeapTensor(name, "out", args.out);
  const lses = expectHeapTensor(name, "lses", args.lses);
  const correctedOut = expectHeapTensor(name, "correctedOut", args.correctedOut);
  const lse = expectHeapTensor(name, "lse", args.lse);
  const base = args.base ?? "e";
  const rows = lse.size;
  const dim = out.dim(2);
  const values = out.toNumbers();
  const allLses = lses.toNumbers();
  const totals = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const rowLses = Array.from({ length: lses.dim(0) }, (_, rank) => allLses[rank * rows + row] ?? 0);
    const total = mergedLse(rowLses, base);
    const factor = stateWeight(rowLses[args.rank] ?? 0, total, base);
    for (let column = 0; column < dim; column++) {
      const index = row * dim + column;
      values[index] = factor === 0 ? 0 : (values[index] ?? 0) * factor;
    }
    totals[row] = total;
  }
  correctedOut.set(values);
  lse.set(totals);
}

/** log_base(sum base^lse_i), ignoring NaN and +inf; -inf when nothing is left. */
export function mergedLse(lses: readonly number[], base: LseBase): number {
  const counted = lses.filter(Number.isFinite);
  if (counted.length === 0) return Number.NEGATIVE_INFINITY;
  const max = Math.max(...counted);
  let sum = 0;
  for (const lse of counted) sum += base === "e" ? Math.exp(lse - max) : 2 ** (lse - max);
  return max + (base === "e" ? Math.log(sum) : Math.log2(sum));
}

/** base^(lse - total), 0 for an empty state and where the weight is 0 in f32. */
export function stateWeight(lse: number, total: number, base: LseBase): number {
  if (!Number.isFinite(lse)) return 0;
  const weight = base === "e" ? Math.exp(lse - total) : 2 ** (lse - total);
  return Math.fround(weight) === 0 ? 0 : weight;
}
