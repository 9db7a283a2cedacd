import type { CompiledKernel } from "../../webgpu/compiled-kernel.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl } from "../../webgpu/wgsl-operands.ts";
import { FOLD_SPLITS_WGSL } from "./fold-splits.wgsl.ts";
import type { PartialAttentionPlan } from "./index.ts";

/** Parameters of fold-splits.wgsl. */
export const FOLD_PARAMS = new ParamTable(FOLD_SPLITS_WGSL, [
  "workgroups",
  "firstSplit",
  "splits",
  "splitKeys",
  "queryHeads",
  "tokensAt",
  "stateFirst",
  "outFirst",
  "lseFirst",
  "sinksAt",
  "begins",
  "ends",
]);
/** On a CPU every thread costs. */
const THREADS = { cpu: 32, gpu: 128 };
/** Splits whose partial results a thread loads before it folds them. */
const TOGETHER = 8;

/** fold-splits.wgsl for the values and sinks of a plan. */
export function foldKernel(recorder: Recorder, { valueDim, sinks }: PartialAttentionPlan): CompiledKernel {
  const threads = recorder.gpu.software ? THREADS.cpu : THREADS.gpu;
  const constants = { THREADS: threads, VALUE_DIM: valueDim, TOGETHER, SINKS: sinks !== undefined };
  return recorder.kernel({
    key: `fold-splits Dv${valueDim} threads${threads}${sinks === undefined ? "" : " sinks"}`,
    entryPoint: "fold_splits",
    bindings: ["uniform", "read", "write", "write", "write", "write", "write"],
    wgsl: () => assembleWgsl(FOLD_SPLITS_WGSL, constants, []),
  });
}
