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
  /** Rows up to a power of two: what scores are laid out for. */
  readonly rowSlots: number;
}

/** What limits a kernel's shape. A GPU hides the latency of memory behind threads; a CPU pays for each of them. */
interface Limits {
  readonly threads: number;
  readonly mostRows: number;
  /** vec4f registers of a thread for its share of queries and sums. */
  readonly vectorRegisters: number;
  /** Scores that a team computes per step. */
  readonly scores: number;
  /** Registers of a thread for its share of queries, sums, and keys and values under way. */
  readonly registers: number;
}

const GPU: Limits = { threads: 128, mostRows: 4, vectorRegisters: 40, scores: 32, registers: 200 };
const CPU: Limits = { threads: 32, mostRows: 4, vectorRegisters: 64, scores: 4, registers: 1024 };

/** Lanes per team where there are no subgroups. */
const LANES_WITHOUT_SUBGROUPS = 8;
const MOST_KEYS_PER_STEP = 4;
/** Twice what an H200 holds at once (132 multiprocessors, 3 each): whole waves, without many splits to merge. */
export const WORKGROUPS_WANTED = 792;
/** The same for caches of f32, whose kernels take fewer registers: 4 each. */
export const WORKGROUPS_WANTED_F32 = 1056;
const FEWEST_SPLIT_KEYS = 256;
const SPLIT_STEP = 64;

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
  return {
    lanes,
    mostRows: Math.max(1, Math.min(limits.mostRows, Math.floor(limits.vectorRegisters / vectors))),
  };
}

/** The shape for a number of rows: the fewer there are, the more keys a team takes at once. */
export function attentionKernelShape(
  device: AttentionDevice,
  lanes: number,
  rows: number,
  keyDim: number,
  valueDim: number,
  chunk: KvChunkShape,
): AttentionKernelShape {
  const { threads, scores, registers } = device.software ? CPU : GPU;
  const rowSlots = 2 ** Math.ceil(Math.log2(rows));
  const rounds = (dim: number): number => Math.max(1, Math.ceil(dim / (chunk.chunk * lanes)));
  const chunks = rounds(keyDim) + rounds(valueDim);
  const left = registers - 4 * rows * chunks * chunk.vectors;
  const most = Math.min(MOST_KEYS_PER_STEP, scores / rowSlots, left / (4 * chunks));
  return { threads, lanes, keys: 2 ** Math.floor(Math.log2(Math.max(1, most))), rows, rowSlots };
}

/**
 * Keys that an item has on average, rounded up to three significant bits: what a step has to do, whether it is spread
 * evenly or lies in one long sequence. Rounded, so that results change seldom when other sequences grow.
 */
export function averageKeys(items: readonly { readonly start: number; readonly end: number }[]): number {
  const total = items.reduce((sum, { start, end }) => sum + end - start, 0);
  if (total === 0) return 0;
  const average = total / items.length;
  const step = 2 ** Math.max(0, Math.floor(Math.log2(average)) - 2);
  return Math.ceil(average / step) * step;
}

/**
 * Keys per split, a multiple of `step`: for items of `itemKeys` keys on average, as many splits as fit into the
 * workgroups wanted, so none when there are many items; but at most `mostSplits` splits of the longest.
 */
export function keysPerSplit(
  workgroupsPerSplit: number,
  itemKeys: number,
  longestKeys: number,
  mostSplits: number,
  workgroupsWanted = WORKGROUPS_WANTED,
  step = SPLIT_STEP,
): number {
  const room = workgroupsWanted / Math.max(1, workgroupsPerSplit);
  const wanted = Math.max(itemKeys / (room < 1 ? room : Math.floor(room)), longestKeys / mostSplits);
  return Math.min(2 ** 30, step * Math.ceil(Math.max(FEWEST_SPLIT_KEYS, wanted) / step));
}
