/**
 * Attention over a KV cache whose tokens are spread over ranks (decode context parallelism). Begin with
 * {@link DcpAttention}.
 *
 * @module @lockstep/attention
 */
export {
  checkKvShard,
  globalPosition,
  type KvShard,
  kvBlockSize,
  kvOwner,
  kvSlot,
  kvTurnEnd,
  kvWeight,
  kvWeightSum,
  localLength,
  visibleRange,
} from "@lockstep/kernels";
export { type Combine, DEFAULT_COMBINE } from "./combine/combine.ts";
export type { CombineChoiceMetrics } from "./combine/combine-choice.ts";
export { type CorrectOptions, dcpCorrectAttnOut } from "./combine/correct-attn-out.ts";
export { convertLse } from "./combine/lse-base.ts";
export { dcpReduceOutput, type ReduceOutputArgs } from "./combine/reduce-output.ts";
export { DcpAttention, type Redistributed, type RedistributeOptions } from "./dcp-attention.ts";
export type { DcpAttentionMetrics } from "./dcp-attention-metrics.ts";
export type { OverlapChoiceMetrics } from "./decode/overlapped-halves.ts";
export { dcpPrepareQuery, type PrepareQueryOptions } from "./decode/prepare-query.ts";
export { NonFiniteKeyValue, OutOfBlocks, StepOrderError } from "./errors.ts";
export { type HeadLayout, type HeadLayoutOptions, headLayout } from "./head-layout.ts";
export {
  type BlockCopy,
  type BlockCounts,
  BlockManager,
  type KnownReservation,
  type Reservation,
  type SequenceBlocks,
} from "./kv/block-manager.ts";
export type { ContextImage, ImagedSequence } from "./kv/context-image.ts";
export type { KnownContents } from "./kv/known-blocks.ts";
export type { CachePart, RowPart, RowScales } from "./kv/kv-caches.ts";
export type { KvScales, KvScaling } from "./kv/kv-scales.ts";
export type { GiveBlock, PendingPrefixes, PrefixBlock, TakeBlock } from "./kv/prefix-transfer.ts";
export type { StepItem, StepPlan } from "./kv/step-plan.ts";
export type { CacheLayout } from "./options/cache-layout.ts";
export type { DcpAttentionOptions } from "./options/dcp-attention-options.ts";
export { type Lengths, type PackOptions, packSeq, unpackSeq } from "./pack-seq.ts";
export { type KvLayout, positionsOfBlock } from "./redistribute/kv-layout.ts";
export { type RegroupedBlock, type RegroupedPrefixes, regroupPrefixes } from "./redistribute/regroup-prefixes.ts";
export { moveRounds } from "./redistribute/move-rounds.ts";
export { type RegroupedContext, regroupContext } from "./redistribute/regroup-context.ts";
export { type BlockMove, type RowRun, rowRuns } from "./redistribute/row-runs.ts";
export { RedistributeFailed } from "./redistribute/redistribute-failed.ts";
export { RedistributeUnsettled } from "./redistribute/redistribute-unsettled.ts";
export type { RedistributeMetrics } from "./redistribute/redistribute-metrics.ts";
export { DEFAULT_WORKSPACE_BYTES, type MoveOptions } from "./redistribute/redistribute-options.ts";
export type { PrefillPlan } from "./prefill/prefill-plan.ts";
