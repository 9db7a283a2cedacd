import type { KvChunkShape } from "./kv-operand.ts";

/** How the threads of a workgroup share keys, dimensions and query rows. */
export interface AttentionKernelShape {
  readonly threads: number;
  /** Threads that hold one key between them; a power of two. */
  readonly lanes: number;
  /** Keys that a team loads per step. */
  readonly keys: number;
  /** Query rows that a workgroup holds. */
  readonly rows: number;
}

/** What limits a kernel's shape. A GPU hides the latency of memory behind threads; a CPU pays for each of them. */
interface Limits {
  readonly threads: number;
  readonly mostRows: number;
  /** vec4f registers of a thread for its share of queries and sums. */
  readonly vectorRegisters: number;
  /** Scores that a team computes per step. */
  readonly scores: number;
}

const GPU: Limits = { threads: 128, mostRows: 8, vectorRegisters: 48, scores: 16 };
const CPU: Limits = { threads: 32, mostRows: 4, vectorRegisters: 64, scores: 4 };

/** Lanes per team where there are no subgroups. */
const LANES_WITHOUT_SUBGROUPS = 8;
const MOST_KEYS_PER_STEP = 4;
const WORKGROUPS_WANTED = 1024;
const FEWEST_SPLIT_KEYS = 256;

/** What a shape is chosen for. */
export interface AttentionDevice {
  /** As in GpuDevice. */
  readonly subgroupWidth: number;
  readonly software: boolean;
}

/** Lanes per team, and the most query rows that a workgroup can hold. */
export function lanesAndRows(
  device: AttentionDevice,
  keyDim: number,
  valueDim: number,
  chunk: KvChunkShape,
): { lanes: number; mostRows: number } {
  const limits = device.software ? CPU : GPU;
  const chunks = Math.max(1, Math.ceil(Math.max(keyDim, valueDim) / chunk.chunk));
  const widest = device.subgroupWidth === 0 ? LANES_WITHOUT_SUBGROUPS : device.subgroupWidth;
  const lanes = Math.min(widest, 2 ** Math.ceil(Math.log2(chunks)));
  const rounds = (dim: number): number => Math.max(1, Math.ceil(dim / (chunk.chunk * lanes)));
  const vectors = (rounds(keyDim) + rounds(valueDim)) * chunk.vectors;
  return { lanes, mostRows: Math.max(1, Math.min(limits.mostRows, Math.floor(limits.vectorRegisters / vectors))) };
}

/** The shape for a number of rows: the fewer there are, the more keys a team takes at once. */
export function attentionKernelShape(device: AttentionDevice, lanes: number, rows: number): AttentionKernelShape {
  const { threads, scores } = device.software ? CPU : GPU;
  const keys = 2 ** Math.floor(Math.log2(Math.max(1, Math.min(MOST_KEYS_PER_STEP, scores / rows))));
  return { threads, lanes, keys, rows };
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
