import type { GpuDevice } from "../../device/gpu-device.ts";
import type { CompiledKernel } from "../../webgpu/compiled-kernel.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl } from "../../webgpu/wgsl-operands.ts";
import type { AttentionInputPlan } from "../partial-attention/attention-inputs.ts";
import { type AttentionKernelProblem, attentionConstants, placed } from "../partial-attention/attention-kernel.ts";
import { ATTENTION_PARAMS_WGSL } from "../partial-attention/attention-params.wgsl.ts";
import { type AttentionKernelShape, attentionKernelShape, lanesAndRows } from "../partial-attention/kernel-shape.ts";
import { type KvChunkShape, kvOperand, queryOperand, rowScaleOperand } from "../partial-attention/kv-operand.ts";
import { teamExchange } from "../partial-attention/team-exchange.ts";
import { LATTICE_ATTENTION_WGSL } from "./lattice-attention.wgsl.ts";
import { LATTICE_NUMBERS_WGSL } from "./lattice-numbers.wgsl.ts";
import { teamMaximum } from "./team-maximum.ts";

const SOURCE = [ATTENTION_PARAMS_WGSL, LATTICE_NUMBERS_WGSL, LATTICE_ATTENTION_WGSL].join("\n");
/** Terms of at most 2^26 that fit a signed word, beside what was left of the terms before them. */
const TERMS_IN_A_WORD = 30;
/** vec4 registers of a thread for queries and for sums of two words each. */
const VECTOR_REGISTERS = 40;

/** What the kernel is compiled for; rows of several tokens always. */
export type LatticeProblem = Omit<AttentionKernelProblem, "severalTokens">;

/** lattice-attention.wgsl for a problem. `sums`: of values and weights; else their bounds. */
export function latticeKernel(recorder: Recorder, given: LatticeProblem, sums: boolean): CompiledKernel {
  const problem = { ...given, severalTokens: true };
  const { plan, queryDType, queryUnit, kvDType, chunk, rowScales } = problem;
  const { threads, lanes, keys, rows } = problem.threads;
  const { keyDim, valueDim, blockSize } = plan;
  const softcap = plan.softcap !== 0;
  const useSubgroups = recorder.gpu.subgroupWidth > 0;
  const flags = [
    softcap ? "softcap" : "",
    rowScales ? "row scales" : "",
    plan.keyScales === undefined ? "" : "head scales",
    chunk.aligned ? "" : `unaligned chunks of ${chunk.chunk}`,
    queryUnit === 4 ? "" : "unaligned query",
    useSubgroups ? "" : "no subgroups",
  ].filter((flag) => flag !== "");
  return recorder.kernel({
    key: [
      `lattice-${sums ? "sums" : "bounds"} q ${queryDType} kv ${kvDType} Dk${keyDim} Dv${valueDim} bs${blockSize}`,
      `threads${threads} lanes${lanes} keys${keys} rows${rows}`,
      ...flags,
    ].join(" "),
    entryPoint: "lattice_attention",
    bindings: [
      ...(["uniform", "read", "write", "read", "read", "read", "read"] as const),
      ...(rowScales ? (["read", "read"] as const) : []),
    ],
    wgsl: () => {
      const constants = attentionConstants(problem);
      return assembleWgsl(
        placed(SOURCE, useSubgroups),
        {
          ...constants,
          ROW_VECTORS: rows * (constants.VALUE_VECTORS ?? 0),
          FLUSH_STEPS: Math.floor(TERMS_IN_A_WORD / keys),
          POISON_WORDS: Math.max(1, Math.ceil(valueDim / 32)),
          SUMS: sums,
          SOFTCAP: softcap,
          QUANTISED: plan.keyScales !== undefined,
          ROW_SCALES: rowScales,
          MAY_BE_INFINITE: kvDType !== "i8",
        },
        [
          "alias KvChunk = array<vec4f, CHUNK_VECTORS>;",
          queryOperand(4, queryDType, queryUnit),
          kvOperand("key", 5, kvDType, keyDim, chunk, lanes),
          kvOperand("value", 6, kvDType, valueDim, chunk, lanes),
          rowScaleOperand("key", 7, kvDType, rowScales),
          rowScaleOperand("value", 8, kvDType, rowScales),
          teamExchange(problem.threads, useSubgroups),
          teamMaximum(lanes, useSubgroups),
        ],
        useSubgroups ? "enable subgroups;" : "",
      );
    },
  });
}

/** The shape for head dims, the same for any step. Sums take two registers each. */
export function latticeShape(
  gpu: GpuDevice,
  { keyDim, valueDim }: AttentionInputPlan,
  chunk: KvChunkShape,
): AttentionKernelShape {
  const { lanes, mostRows } = lanesAndRows(gpu, keyDim, valueDim, chunk);
  const vectors = (dim: number): number => Math.max(1, Math.ceil(dim / (chunk.chunk * lanes))) * chunk.vectors;
  const fitting = Math.floor(VECTOR_REGISTERS / (vectors(keyDim) + 2 * vectors(valueDim)));
  const rows = Math.max(1, Math.min(mostRows, fitting));
  return attentionKernelShape(gpu, lanes, rows, keyDim, valueDim, chunk);
}
