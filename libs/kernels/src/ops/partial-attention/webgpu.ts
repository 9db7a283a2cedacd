import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { readAttentionOperands } from "./attention-regions.ts";
import { refuseContinuedSums } from "./continued-sums.ts";
import { recordFastestAttention } from "./fastest-attention.ts";
import type { PartialAttentionArgs, PartialAttentionPlan } from "./index.ts";
import { checkInvariantSums, recordInvariantAttention } from "./invariant-attention.ts";

/** Records partialAttention. `plan` is what the check of `args` returned. */
export function recordPartialAttention(
  recorder: Recorder,
  args: PartialAttentionArgs,
  plan: PartialAttentionPlan,
): void {
  const { query, out, lse } = args;
  const { batchInvariant } = recorder.gpu;
  for (const [name, operand] of Object.entries({ query, out, lse })) {
    expectContiguousOnGpu("partialAttention", name, operand);
  }
  if (args.sums !== undefined) {
    if (batchInvariant) checkInvariantSums("partialAttention", args.sums, plan.valueDim, { out, lse });
    else refuseContinuedSums("partialAttention");
  }
  if (plan.tokens === 0 || plan.queryHeads === 0) return;
  const operands = readAttentionOperands(recorder, args, plan);
  // The one place where a step's bits are decided on.
  if (batchInvariant) recordInvariantAttention(recorder, args, plan, operands);
  else recordFastestAttention(recorder, args, plan, operands);
}
