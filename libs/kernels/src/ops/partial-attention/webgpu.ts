import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { type AttentionOperandRegions, readAttentionOperands } from "./attention-regions.ts";
import { refuseContinuedSums } from "./continued-sums.ts";
import { recordFastestAttention } from "./fastest-attention.ts";
import type { PartialAttentionArgs, PartialAttentionPlan } from "./index.ts";
import { checkInvariantSums, recordInvariantAttention } from "./invariant-attention.ts";

/**
 * Records partialAttention.
 * @param plan what the check of `args` returned
 * @param bound the operands, if they were bound before, and then found to be as they must
 */
export function recordPartialAttention(
  recorder: Recorder,
  args: PartialAttentionArgs,
  plan: PartialAttentionPlan,
  bound?: AttentionOperandRegions,
): void {
  const { query, out, lse } = args;
  const { batchInvariant } = recorder.gpu;
  if (bound === undefined) {
    for (const [name, operand] of Object.entries({ query, out, lse })) {
      expectContiguousOnGpu("partialAttention", name, operand);
    }
  }
  if (args.sums !== undefined) {
    if (batchInvariant) checkInvariantSums("partialAttention", args.sums, plan.valueDim, { out, lse });
    else refuseContinuedSums("partialAttention");
  }
  if (plan.tokens === 0 || plan.queryHeads === 0) return;
  const operands = bound ?? readAttentionOperands(recorder, args, plan);
  // The one place where a step's bits are decided on.
  if (batchInvariant) recordInvariantAttention(recorder, args, plan, operands);
  else recordFastestAttention(recorder, args, plan, operands);
}
