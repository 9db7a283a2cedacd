import type { KvChunkShape } from "./kv-operand.ts";

export const ATTENTION_THREADS = 128;
/** Lanes per team where there are no subgroups. */
const LANES_WITHOUT_SUBGROUPS = 8;
const MOST_ROWS = 8;
/** vec4f registers for a thread's share of queries and sums. */
const VECTOR_REGISTERS = 48;
const WORKGROUPS_WANTED = 1024;
const FEWEST_SPLIT_KEYS = 256;

/** How the threads of a workgroup share keys, dimensions and query rows. */
export interface AttentionKernelShape {
  /** Threads that hold one key between them; a power of two. */
  readonly lanes: number;
  /** Most query rows that a workgroup can hold. */
  readonly mostRows: number;
}

/** `subgroupWidth` as in GpuDevice. */
export function attentionKernelShape(
  keyDim: number,
  valueDim: number,
  chunk: KvChunkShape,
  subgroupWidth: number,
): AttentionKernelShape {
  const chunks = Math.max(1, Math.ceil(Math.max(keyDim, valueDim) / chunk.chunk));
  const widest = subgroupWidth === 0 ? LANES_WITHOUT_SUBGROUPS : subgroupWidth;
  const lanes = Math.min(widest, 2 ** Math.ceil(Math.log2(chunks)));
  const rounds = (dim: number): number => Math.max(1, Math.ceil(dim / (chunk.chunk * lanes)));
  const vectors = (rounds(keyDim) + rounds(valueDim)) * chunk.vectors;
  return { lanes, mostRows: Math.max(1, Math.min(MOST_ROWS, Math.floor(VECTOR_REGISTERS / vectors))) };
}

/** Keys that a team loads per step: more when there are few rows to hide the latency of memory behind. */
export function keysPerStep(rows: number): number {
  return rows <= 4 ? 4 : 2;
}

/**
 * Keys per split, a power of two of at least 256. It depends on shapes alone (never on how full the cache is), so that
 * a result does not change when other sequences grow: enough splits for WORKGROUPS_WANTED workgroups when all block
 * tables are full, so none when there are many tokens.
 */
export function keysPerSplit(tokens: number, kvHeads: number, tableKeys: number): number {
  const wanted = (tableKeys * tokens * kvHeads) / WORKGROUPS_WANTED;
  return Math.min(2 ** 30, 2 ** Math.ceil(Math.log2(Math.max(FEWEST_SPLIT_KEYS, wanted))));
}
