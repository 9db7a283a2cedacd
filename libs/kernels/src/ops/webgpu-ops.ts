// How each op is recorded for a GPU: the kernels that it runs, and what they are given.
import type { Recorder } from "../webgpu/recorder.ts";
import { recordAttentionBounds } from "./attention-bounds/webgpu.ts";
import { recordCorrectAttnOut } from "./correct-attn-out/webgpu.ts";
import { recordFinishLattice } from "./finish-lattice/webgpu.ts";
import { recordGatherKvCache } from "./gather-kv-cache/webgpu.ts";
import { recordLatticeSums } from "./lattice-sums/webgpu.ts";
import { recordMergeAttnStates, recordMergesTogether } from "./merge-attn-states/webgpu.ts";
import type { OpArguments, OpName, PlanOf } from "./op-table.ts";
import { recordPackSeq } from "./pack-seq/webgpu.ts";
import { recordPartialAttention } from "./partial-attention/webgpu.ts";
import { recordUnpackSeq } from "./unpack-seq/webgpu.ts";
import { recordWriteKvCache, recordWritesTogether } from "./write-kv-cache/webgpu.ts";

type GpuOp<Args, Plan> = (recorder: Recorder, args: Args, plan: Plan) => void;

/** Records an op whose arguments have been checked, with what the check returned. */
export const GPU_OPS: { readonly [Name in OpName]: GpuOp<OpArguments[Name], PlanOf<Name>> } = {
  correctAttnOut: recordCorrectAttnOut,
  packSeq: recordPackSeq,
  unpackSeq: recordUnpackSeq,
  mergeAttnStates: recordMergeAttnStates,
  writeKvCache: recordWriteKvCache,
  gatherKvCache: recordGatherKvCache,
  partialAttention: recordPartialAttention,
  attentionBounds: recordAttentionBounds,
  latticeSums: recordLatticeSums,
  finishLattice: recordFinishLattice,
};

/** An op's arguments, and what the check of them returned. */
export interface CheckedOp<Name extends OpName> {
  readonly args: OpArguments[Name];
  readonly plan: PlanOf<Name>;
}

/** Records ops of which none reads or writes what another of them writes, where a dispatch can run several. */
export const GPU_OPS_TOGETHER: {
  readonly [Name in OpName]?: (recorder: Recorder, list: readonly CheckedOp<Name>[]) => void;
} = {
  mergeAttnStates: (recorder, list) =>
    recordMergesTogether(
      recorder,
      list.map(({ args }) => args),
    ),
  writeKvCache: recordWritesTogether,
};
