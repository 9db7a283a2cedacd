import type { CompiledKernel } from "../../webgpu/compiled-kernel.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl } from "../../webgpu/wgsl-operands.ts";
import type { AttentionInputPlan } from "../partial-attention/attention-inputs.ts";
import { FOLD_LATTICE_WGSL } from "./fold-lattice.wgsl.ts";
import { LATTICE_NUMBERS_WGSL } from "./lattice-numbers.wgsl.ts";

/** Parameters of fold-lattice.wgsl. */
export const FOLD_LATTICE_PARAMS = new ParamTable(FOLD_LATTICE_WGSL, [
  "workgroups",
  "rows",
  "firstSplit",
  "splits",
  "splitKeys",
  "queryHeads",
  "tokensAt",
  "sinksAt",
  "resultFirst",
  "scoreBoundsFirst",
  "boundsStride",
  "continues",
]);
/** On a CPU every thread costs. */
const THREADS = { cpu: 32, gpu: 128 };

/** fold-lattice.wgsl for the values and sinks of a plan, and the threads of its workgroups. */
export function foldLatticeKernel(
  recorder: Recorder,
  { valueDim, sinks }: AttentionInputPlan,
  isSums: boolean,
): { kernel: CompiledKernel; threads: number } {
  const threads = recorder.gpu.software ? THREADS.cpu : THREADS.gpu;
  const constants = { THREADS: threads, VALUE_DIM: valueDim, SUMS: isSums, SINKS: sinks !== undefined };
  const what = isSums ? `sums Dv${valueDim}` : "bounds";
  const kernel = recorder.kernel({
    key: `fold-lattice ${what} threads${threads}${sinks === undefined ? "" : " sinks"}`,
    entryPoint: "fold_lattice",
    bindings: ["uniform", "read", "write", "write", "read"],
    wgsl: () => assembleWgsl([LATTICE_NUMBERS_WGSL, FOLD_LATTICE_WGSL].join("\n"), constants, []),
  });
  return { kernel, threads };
}
