// Scores that attentionBounds leaves for latticeSums.
import { ArgumentError } from "@lockstep/tensor";
import { expectDType, expectShape, type Operand } from "../../operand.ts";
import type { AttentionInputPlan } from "../partial-attention/attention-inputs.ts";

/** Throws ArgumentError unless `scores` has room for every key that a token sees. */
export function checkKeptScores(name: string, scores: Operand, plan: AttentionInputPlan): void {
  const { tokens, queryHeads } = plan;
  expectShape(name, "scores", scores, [tokens, queryHeads, null]);
  expectDType(name, "scores", scores, ["f32"]);
  const [, , room = 0] = scores.shape;
  if (scores.strides[2] !== 1 && room > 1) {
    throw new ArgumentError(name, "scores", "of stride 1 in its last dimension", scores.toString());
  }
  const most = mostVisibleKeys(plan);
  if (room >= most) return;
  throw new ArgumentError(name, "scores", `of room for the ${most} keys that a token sees`, `of room for ${room}`);
}

/** The largest number of keys that a token sees here. */
export function mostVisibleKeys({ tokens, starts, ends }: AttentionInputPlan): number {
  let most = 0;
  for (let token = 0; token < tokens; token++) most = Math.max(most, (ends[token] ?? 0) - (starts[token] ?? 0));
  return most;
}
