import type { CompiledKernel } from "../../webgpu/compiled-kernel.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl } from "../../webgpu/wgsl-operands.ts";
import type { PartialAttentionPlan } from "./index.ts";
import { MERGE_SPLITS_WGSL } from "./merge-splits.wgsl.ts";

/** Parameters of merge-splits.wgsl. */
export const MERGE_PARAMS = new ParamTable(MERGE_SPLITS_WGSL, [
  "workgroups",
  "splits",
  "splitKeys",
  "queryHeads",
  "tokensAt",
  "outFirst",
  "lseFirst",
  "sinksAt",
]);
/** On a CPU every thread costs, and barriers most; on a GPU loads that wait for others: many splits, many groups. */
const SHAPES = {
  cpu: { threads: 32, columns: 32 },
  fewSplits: { threads: 256, columns: 32 },
  manySplits: { threads: 256, columns: 8 },
};
/** Splits whose partial results a thread loads before it adds them. */
const TOGETHER = 4;

/** How a workgroup of merge-splits.wgsl shares a row. */
export interface MergeShape {
  readonly threads: number;
  readonly columns: number;
}

/** A shape by the splits that there is room for: the same one however far a context has grown. */
export function mergeShape(recorder: Recorder, mostSplits: number): MergeShape {
  if (recorder.gpu.software) return SHAPES.cpu;
  const { fewSplits, manySplits } = SHAPES;
  return mostSplits > (TOGETHER * fewSplits.threads) / fewSplits.columns ? manySplits : fewSplits;
}

/** Workgroups per row; one even when a row has no columns, for its LSE. */
export function mergeBlocks({ columns }: MergeShape, valueDim: number): number {
  return Math.max(1, Math.ceil(valueDim / columns));
}

/** merge-splits.wgsl for the values and sinks of a plan. */
export function mergeKernel(recorder: Recorder, plan: PartialAttentionPlan, shape: MergeShape): CompiledKernel {
  const { valueDim, sinks } = plan;
  const { threads, columns } = shape;
  const constants = {
    THREADS: threads,
    VALUE_DIM: valueDim,
    COLUMN_BLOCKS: mergeBlocks(shape, valueDim),
    COLUMNS: columns,
    GROUPS: threads / columns,
    TOGETHER: TOGETHER,
    SINKS: sinks !== undefined,
  };
  return recorder.kernel({
    key: `merge-splits Dv${valueDim} columns${columns}${sinks === undefined ? "" : " sinks"}`,
    entryPoint: "merge_splits",
    bindings: ["uniform", "read", "read", "read", "write", "write"],
    wgsl: () => assembleWgsl(MERGE_SPLITS_WGSL, constants, []),
  });
}
