import { DTYPE_BYTES, type DType } from "@lockstep/tensor";
import type { Region } from "../../webgpu/region.ts";
import type { RawBytes } from "../../webgpu/wgsl-operands.ts";

export const SEQUENCE_THREADS = 256;
const LARGEST_BLOCK = 1024;

/** How pack-seq and unpack-seq cut a padded batch into workgroups. */
export interface SequenceBlocks {
  /** Bytes that a thread moves at once. */
  readonly unitBytes: RawBytes;
  readonly rowUnits: number;
  readonly blockRows: number;
  readonly blockUnits: number;
  readonly rowBlocks: number;
  readonly columnBlocks: number;
}

/** The widest unit that divides a row and both operands' offsets, and the blocks that the hints ask for. */
export function sequenceBlocks(
  dtype: DType,
  rowElements: number,
  longest: number,
  regions: readonly Region[],
  blockT = 64,
  blockD = 64,
): SequenceBlocks {
  const width = DTYPE_BYTES[dtype];
  const sizes = [rowElements * width, ...regions.map((region) => region.first * width)];
  const unitBytes = ([16, 4, 2, 1] as const).find((bytes) => sizes.every((size) => size % bytes === 0)) ?? 1;
  const rowUnits = (rowElements * width) / unitBytes;
  const wantedUnits = Math.ceil((blockD * width) / unitBytes);
  const blockUnits = Math.max(1, Math.min(rowUnits, wantedUnits, LARGEST_BLOCK));
  const blockRows = Math.max(1, Math.min(blockT, LARGEST_BLOCK));
  return {
    unitBytes,
    rowUnits,
    blockRows,
    blockUnits,
    rowBlocks: Math.ceil(longest / blockRows),
    columnBlocks: Math.ceil(rowUnits / blockUnits),
  };
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
