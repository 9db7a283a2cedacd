/**
 * Kernels of attention on WebGPU, WebAssembly SIMD and in float64, behind one contract, and who owns which token of a
 * KV cache. Begin with {@link openBackend}.
 *
 * @module @lockstep/kernels
 */
export type { BackendName, Completion, KernelBackend } from "./backends/backend.ts";
export type { PreparedAttention, PreparedOps, PreparedWrite } from "./ops/prepared-ops.ts";
export type { DeviceSharing } from "./backends/device-sharing.ts";
export type { OpOutcome, OpsTogether } from "./backends/ops-together.ts";
export { OpMethods } from "./backends/op-methods.ts";
export { KernelContext } from "./context.ts";
export type { CallerGpuBuffer, CallerGpuDevice } from "./device/caller-gpu.ts";
export { type InstalledGpu, installedGpus } from "./device/installed-gpus.ts";
export { BackendClosed, BackendUnavailable, DeviceError } from "./errors.ts";
export { GpuTensor, type RemoteGpuMemory, type WrapOptions } from "./gpu-tensor.ts";
export {
  checkKvShard,
  checkKvWeights,
  globalPosition,
  type KvShard,
  kvBlockSize,
  kvOwner,
  kvSlot,
  kvTurnEnd,
  kvWeight,
  kvWeightSum,
  localLength,
  UNSHARDED,
  visibleRange,
} from "./kv/kv-ownership.ts";
export { expectApart, expectWritable } from "./overlapping-operands.ts";
export { type OpenBackendOptions, openBackend } from "./backends/open-backend.ts";
export type { Operand } from "./operand.ts";
export type {
  AttentionBoundsArgs,
  AttentionBoundsOperands,
  PlannedAttentionBoundsArgs,
  UnplannedAttentionBoundsArgs,
} from "./ops/attention-bounds/index.ts";
export type { CorrectAttnOutArgs, LseBase, NonFinite } from "./ops/correct-attn-out/index.ts";
export type { FinishLatticeArgs } from "./ops/finish-lattice/index.ts";
export type { GatherKvCacheArgs } from "./ops/gather-kv-cache/index.ts";
export type {
  LatticeSumsArgs,
  LatticeSumsOperands,
  PlannedLatticeSumsArgs,
  UnplannedLatticeSumsArgs,
} from "./ops/lattice-sums/index.ts";
export { MOST_LATTICE_KEYS, MOST_LATTICE_RANKS } from "./ops/lattice-sums/lattice.ts";
export type { MergeAttnStatesArgs } from "./ops/merge-attn-states/index.ts";
export { checkArguments, type OfEveryOp, type OpArguments, type OpName, opResults } from "./ops/op-table.ts";
export { RepeatedArguments } from "./ops/repeated-arguments.ts";
export type { PackSeqArgs } from "./ops/pack-seq/index.ts";
export { checkLengths } from "./ops/pack-seq/lengths.ts";
export type { AttentionInputs, PlannedStep, UnplannedStep } from "./ops/partial-attention/attention-inputs.ts";
export {
  AttentionPlan,
  type AttentionStep,
  type KvSegment,
} from "./ops/partial-attention/attention-plan.ts";
export { attentionTileKeys } from "./ops/partial-attention/attention-tiles.ts";
export { type ContinuedSums, gpuSumsBorder, gpuSumsWidth } from "./ops/partial-attention/continued-sums.ts";
export {
  type AttentionOperands,
  checkAttentionPlan,
  type PartialAttentionArgs,
  type PlannedAttentionArgs,
  type UnplannedAttentionArgs,
} from "./ops/partial-attention/index.ts";
export { checkScoreFactor, checkSink, checkSoftcap } from "./ops/partial-attention/score-numbers.ts";
export type { UnpackSeqArgs } from "./ops/unpack-seq/index.ts";
export type { WriteKvCacheArgs } from "./ops/write-kv-cache/index.ts";
export { SlotPlan } from "./ops/write-kv-cache/slot-plan.ts";
export type { PagedCacheSize } from "./kv/paged-cache-size.ts";
export { checkScale, isQuantised, KV_DTYPES, type KvScale } from "./kv/quantised-kv.ts";
