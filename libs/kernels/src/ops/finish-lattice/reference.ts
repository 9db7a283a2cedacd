import { expectHeapTensor } from "../../operand.ts";
import { isNotFinite, joinWords, latticeExponent, latticeStep, WEIGHT_STEP } from "../lattice-sums/lattice.ts";
import { checkFinishLattice, type FinishLatticeArgs } from "./index.ts";

/** finishLattice in float64. */
export function finishLatticeReference(args: FinishLatticeArgs): void {
  checkFinishLattice(args);
  const name = "finishLattice";
  const bounds = expectHeapTensor(name, "bounds", args.bounds).toNumbers();
  const sums = expectHeapTensor(name, "sums", args.sums).toNumbers();
  const out = expectHeapTensor(name, "out", args.out);
  const lse = expectHeapTensor(name, "lse", args.lse);
  const [tokens = 0, heads = 0, valueDim = 0] = out.shape;
  const rows = tokens * heads;
  const outs = new Float64Array(rows * valueDim);
  const lses = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const largest = bounds[row] ?? 0;
    const step = latticeStep(latticeExponent(largest, bounds[rows + row] ?? 0, bounds[2 * rows + row] ?? 0));
    const sumOf = (column: number): number => {
      const at = (row * (valueDim + 1) + column) * 2;
      const [low = 0, high = 0] = sums.subarray(at, at + 2);
      return isNotFinite(high) ? Number.NaN : joinWords(low, high);
    };
    const total = largest === Number.POSITIVE_INFINITY ? Number.NaN : WEIGHT_STEP * sumOf(valueDim);
    // No key at all: the largest of no scores is -inf.
    lses[row] = total === 0 ? Number.NEGATIVE_INFINITY : largest * Math.LN2 + Math.log(total);
    if (total === 0) continue;
    for (let column = 0; column < valueDim; column++) {
      outs[row * valueDim + column] = (step * sumOf(column)) / total;
    }
  }
  out.set(outs);
  lse.set(lses);
}
