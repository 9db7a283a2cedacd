import { expectHeapTensor } from "../../operand.ts";
import { mergedStates } from "../correct-attn-out/reference.ts";
import { checkMergeAttnStates, type MergeAttnStatesArgs } from "./index.ts";

/** mergeAttnStates in float64. */
export function mergeAttnStatesReference(args: MergeAttnStatesArgs): void {
  checkMergeAttnStates(args);
  const name = "mergeAttnStates";
  const outs = args.outs.map((out, index) => expectHeapTensor(name, `outs[${index}]`, out).toNumbers());
  const lses = args.lses.map((lse, index) => expectHeapTensor(name, `lses[${index}]`, lse).toNumbers());
  const merged = expectHeapTensor(name, "out", args.out);
  const lse = args.lse === undefined ? undefined : expectHeapTensor(name, "lse", args.lse);
  const base = args.base ?? "e";
  const dim = merged.dim(2);
  const rows = merged.dim(0) * merged.dim(1);
  const values = new Float64Array(rows * dim);
  const totals = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const rowLses = lses.map((state) => state[row] ?? 0);
    const { lse: total, weights } = mergedStates(rowLses, base, args.nonFinite);
    for (const [index, state] of outs.entries()) {
      const weight = weights[index];
      if (weight === undefined) continue;
      for (let column = row * dim; column < (row + 1) * dim; column++) {
        values[column] = (values[column] ?? 0) + weight * (state[column] ?? 0);
      }
    }
    totals[row] = total;
  }
  merged.set(values);
  lse?.set(totals);
}
