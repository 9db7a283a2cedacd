import type { CompiledKernel } from "../../webgpu/compiled-kernel.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl, type FloatDType } from "../../webgpu/wgsl-operands.ts";
import { ATTENTION_SOURCE } from "./attend-splits.ts";
import type { AttentionInputPlan } from "./attention-inputs.ts";
import type { AttentionKernelShape } from "./kernel-shape.ts";
import { type KvChunkShape, type KvElement, kvOperand, queryOperand, rowScaleOperand } from "./kv-operand.ts";
import { scoreOwnership, teamExchange } from "./team-exchange.ts";

/** Everything that a compiled kernel is made for. */
export interface AttentionKernelProblem {
  readonly plan: AttentionInputPlan;
  readonly queryDType: FloatDType | "f8e4m3";
  readonly queryUnit: 1 | 4;
  readonly kvDType: KvElement;
  readonly chunk: KvChunkShape;
  readonly rowScales: boolean;
  readonly threads: AttentionKernelShape;
  readonly severalTokens: boolean;
}

/** partial-attention.wgsl for a problem. `split`: write partial results. */
export function attentionKernel(recorder: Recorder, problem: AttentionKernelProblem, split: boolean): CompiledKernel {
  const { plan, queryDType, queryUnit, kvDType, chunk, rowScales, severalTokens } = problem;
  const { threads, lanes, keys, rows } = problem.threads;
  const { keyDim, valueDim, blockSize } = plan;
  const softcap = plan.softcap !== 0;
  const sinks = plan.sinks !== undefined && !split;
  const useSubgroups = recorder.gpu.subgroupWidth > 0;
  const flags = [
    split ? "split" : "",
    severalTokens ? "several tokens" : "",
    softcap ? "softcap" : "",
    sinks ? "sinks" : "",
    rowScales ? "row scales" : "",
    chunk.aligned ? "" : `unaligned chunks of ${chunk.chunk}`,
    queryUnit === 4 ? "" : "unaligned query",
    useSubgroups ? "" : "no subgroups",
  ].filter((flag) => flag !== "");
  return recorder.kernel({
    key: [
      `partial-attention q ${queryDType} kv ${kvDType} Dk${keyDim} Dv${valueDim} bs${blockSize}`,
      `threads${threads} lanes${lanes} keys${keys} rows${rows}`,
      ...flags,
    ].join(" "),
    entryPoint: "partial_attention",
    bindings: [
      ...(["uniform", "read", "write", "write", "read", "read", "read"] as const),
      ...(rowScales ? (["read", "read"] as const) : []),
    ],
    wgsl: () =>
      assembleWgsl(
        placed(ATTENTION_SOURCE, useSubgroups),
        {
          ...attentionConstants(problem),
          SPLIT: split,
          SEVERAL_TOKENS: severalTokens,
          SOFTCAP: softcap,
          SINKS: sinks,
          QUANTISED: plan.keyScales !== undefined,
          ROW_SCALES: rowScales,
        },
        [
          "alias KvChunk = array<vec4f, CHUNK_VECTORS>;",
          queryOperand(4, queryDType, queryUnit),
          kvOperand("key", 5, kvDType, keyDim, chunk, lanes),
          kvOperand("value", 6, kvDType, valueDim, chunk, lanes),
          rowScaleOperand("key", 7, kvDType, rowScales),
          rowScaleOperand("value", 8, kvDType, rowScales),
          teamExchange(problem.threads, useSubgroups),
        ],
        useSubgroups ? "enable subgroups;" : "",
      ),
  });
}

/** The kernel with the builtin by which a thread knows its place among those that it exchanges scores with. */
export function placed(source: string, useSubgroups: boolean): string {
  return source
    .replace("PLACE_PARAMETER", useSubgroups ? "@builtin(subgroup_invocation_id) subgroup_place: u32," : "")
    .replace("= PLACE;", useSubgroups ? "= subgroup_place;" : "= thread;");
}

/** Constants of kernels that share keys, dimensions and rows out to threads in the way of a shape. */
export function attentionConstants(problem: AttentionKernelProblem): Record<string, number> {
  const { threads, lanes, keys, rows, rowSlots } = problem.threads;
  const { scores, own, ownRows, ownKeys, spread, rowLanes } = scoreOwnership(problem.threads);
  const { chunk, vectors } = problem.chunk;
  const { keyDim, valueDim, blockSize } = problem.plan;
  const [keyChunks, valueChunks] = [Math.ceil(keyDim / chunk), Math.ceil(valueDim / chunk)];
  const rounds = (chunks: number): number => Math.max(1, Math.ceil(chunks / lanes));
  const [keyRounds, valueRounds] = [rounds(keyChunks), rounds(valueChunks)];
  return {
    THREADS: threads,
    LANES: lanes,
    TEAMS: threads / lanes,
    KEYS: keys,
    TILE: keys * (threads / lanes),
    ROWS: rows,
    ROW_SLOTS: rowSlots,
    SCORES: scores,
    OWN: own,
    OWN_ROWS: ownRows,
    OWN_KEYS: ownKeys,
    SPREAD: spread,
    ROW_LANES: rowLanes,
    KEY_DIM: keyDim,
    VALUE_DIM: valueDim,
    CHUNK: chunk,
    CHUNK_VECTORS: vectors,
    KEY_CHUNKS: keyChunks,
    VALUE_CHUNKS: valueChunks,
    KEY_ROUNDS: keyRounds,
    VALUE_ROUNDS: valueRounds,
    KEY_VECTORS: keyRounds * vectors,
    VALUE_VECTORS: valueRounds * vectors,
    BLOCK_SIZE: blockSize,
  };
}
