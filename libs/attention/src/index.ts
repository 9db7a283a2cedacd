export {
  globalPosition,
  type KvShard,
  kvOwner,
  kvSlot,
  localLength,
  visibleRange,
} from "@lockstep/kernels";
export { type BlockCopy, BlockManager, type Reservation, type SequenceBlocks } from "./block-manager.ts";
export type { Combine } from "./combine.ts";
export type { CombineChoiceMetrics } from "./combine-choice.ts";
export { type CorrectOptions, dcpCorrectAttnOut } from "./correct-attn-out.ts";
export { DcpAttention, type DcpAttentionMetrics } from "./dcp-attention.ts";
export type { DcpAttentionOptions } from "./dcp-attention-options.ts";
export { NonFiniteKeyValue, OutOfBlocks, StepOrderError } from "./errors.ts";
export { type HeadLayout, type HeadLayoutOptions, headLayout } from "./head-layout.ts";
export type { RowScales } from "./kv-caches.ts";
export type { KvScales, KvScaling } from "./kv-scales.ts";
export { convertLse } from "./lse-base.ts";
export { type Lengths, type PackOptions, packSeq, unpackSeq } from "./pack-seq.ts";
export type { PrefillPlan } from "./prefill-plan.ts";
export { dcpPrepareQuery, type PrepareQueryOptions } from "./prepare-query.ts";
export { dcpReduceOutput, type ReduceOutputArgs } from "./reduce-output.ts";
export type { StepItem, StepPlan } from "./step-plan.ts";
