import { expectHeapTensor } from "../../operand.ts";
import { referenceRows } from "../partial-attention/reference-rows.ts";
import { valueExponent } from "../lattice-sums/lattice.ts";
import { type AttentionBoundsArgs, planAttentionBounds } from "./index.ts";

/** attentionBounds in float64, but for the scores' last rounding to f32. It keeps no scores. */
export function attentionBoundsReference(args: AttentionBoundsArgs): void {
  const name = "attentionBounds";
  const plan = planAttentionBounds(args);
  const { tokens, queryHeads } = plan;
  const rows = tokens * queryHeads;
  const bounds = expectHeapTensor(name, "bounds", args.bounds);
  const numbers = plan.continues
    ? Float64Array.from(bounds.toNumbers())
    : new Float64Array(3 * rows).fill(Number.NEGATIVE_INFINITY);
  const raise = (at: number, to: number): void => {
    numbers[at] = Math.max(numbers[at] ?? 0, to);
  };
  for (const { token, head, scores, value, sink } of referenceRows(name, args, plan)) {
    const row = token * queryHeads + head;
    raise(row, Math.fround(sink * Math.LOG2E));
    for (const [index, score] of scores.entries()) {
      const inBits = Math.fround(score * Math.LOG2E);
      if (!Number.isFinite(inBits)) {
        raise(row, Number.POSITIVE_INFINITY);
        continue;
      }
      const exponent = valueExponent(value(index));
      raise(row, inBits);
      raise(rows + row, Math.fround(inBits + exponent));
      raise(2 * rows + row, exponent);
    }
  }
  bounds.set(numbers);
}
