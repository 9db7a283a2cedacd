import { DTYPE_BYTES, type DType } from "@lockstep/tensor";
import type { Region } from "../../webgpu/region.ts";
import type { RawBytes } from "../../webgpu/wgsl-operands.ts";

export const SEQUENCE_THREADS = 256;
/** Units in flight per thread. */
const LOADS = 4;
const MOST_LOADS = 16;

/** How pack-seq and unpack-seq cut a padded batch into workgroups. */
export interface SequenceBlocks {
  /** Bytes that a thread moves at once. */
  readonly unitBytes: RawBytes;
  readonly rowUnits: number;
  /** Units that each thread of a workgroup moves. */
  readonly loads: number;
  /** Workgroups per sequence. */
  readonly blocks: number;
}

/**
 * The widest unit that divides a row and both operands' offsets, and the blocks that the hints ask for: blockT rows of
 * blockD columns make a workgroup's share, rounded to whole units per thread.
 */
export function sequenceBlocks(
  dtype: DType,
  rowElements: number,
  longest: number,
  regions: readonly Region[],
  blockT?: number,
  blockD?: number,
): SequenceBlocks {
  const width = DTYPE_BYTES[dtype];
  const sizes = [rowElements * width, ...regions.map((region) => region.first * width)];
  const unitBytes = ([16, 4, 2, 1] as const).find((bytes) => sizes.every((size) => size % bytes === 0)) ?? 1;
  const rowUnits = (rowElements * width) / unitBytes;
  const isHinted = blockT !== undefined || blockD !== undefined;
  const hinted = ((blockT ?? 64) * (blockD ?? 64) * width) / unitBytes / SEQUENCE_THREADS;
  const loads = isHinted ? Math.max(1, Math.min(MOST_LOADS, Math.round(hinted))) : LOADS;
  const blocks = Math.ceil((longest * rowUnits) / (loads * SEQUENCE_THREADS));
  return { unitBytes, rowUnits, loads, blocks };
}

/** First row and length of every sequence, as the kernels read them. */
export function sequenceTable(lengths: ArrayLike<number>): Uint32Array {
  const table = new Uint32Array(Math.max(2, 2 * lengths.length));
  let first = 0;
  for (let index = 0; index < lengths.length; index++) {
    const length = lengths[index] ?? 0;
    table[2 * index] = first;
    table[2 * index + 1] = length;
    first += length;
  }
  return table;
}
