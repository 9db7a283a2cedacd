import { expectHeapTensor } from "../../operand.ts";
import { referenceRows } from "../partial-attention/reference-rows.ts";
import { type LatticeSumsArgs, planLatticeSums } from "./index.ts";
import {
  isNotFinite,
  joinWords,
  latticeExponent,
  latticeStep,
  NOT_FINITE,
  oddWeight,
  splitWords,
  WEIGHT_STEP,
} from "./lattice.ts";

/** latticeSums in float64: every term is rounded by itself, and integers are added. */
export function latticeSumsReference(args: LatticeSumsArgs): void {
  const name = "latticeSums";
  const plan = planLatticeSums(args);
  const { tokens, queryHeads, valueDim } = plan;
  const rows = tokens * queryHeads;
  const bounds = expectHeapTensor(name, "bounds", args.bounds).toNumbers();
  const target = expectHeapTensor(name, "sums", args.sums);
  const columns = valueDim + 1;
  const words = plan.continues ? target.toNumbers() : new Float64Array(rows * columns * 2);
  for (const { token, head, scores, value, sink } of referenceRows(name, args, plan)) {
    const row = token * queryHeads + head;
    const largest = bounds[row] ?? 0;
    if (!Number.isFinite(largest)) continue;
    const exponent = latticeExponent(largest, bounds[rows + row] ?? 0, bounds[2 * rows + row] ?? 0);
    const step = latticeStep(exponent);
    const place = row * columns * 2;
    const sums = Array.from({ length: columns }, (_, column) => {
      const [low = 0, high = 0] = words.subarray(place + 2 * column);
      return isNotFinite(high) ? Number.NaN : joinWords(low, high);
    });
    const add = (column: number, term: number): void => {
      sums[column] = (sums[column] ?? 0) + Math.round(term);
    };
    const weightOf = (score: number): number => oddWeight(2 ** (Math.fround(score * Math.LOG2E) - largest));
    if (!plan.continues) add(valueDim, weightOf(sink) / WEIGHT_STEP);
    for (const [index, score] of scores.entries()) {
      const weight = weightOf(score);
      for (const [column, element] of value(index).entries()) add(column, (weight * Math.fround(element)) / step);
      add(valueDim, weight / WEIGHT_STEP);
    }
    for (const [column, sum] of sums.entries()) {
      words.set(Number.isFinite(sum) ? splitWords(sum) : [0, NOT_FINITE], place + 2 * column);
    }
  }
  target.set(words);
}
