import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";

/** Dtypes that checkpoints store weights in, and that layers read. */
export type StoredDType = "f32" | "bf16" | "f16";

/** How a rank keeps its matrices: as the checkpoint stores them, or in int8 with scales. */
export type WeightKind = "stored" | "i8";

/** Consecutive elements of a row that share a scale in int8. */
export const WEIGHT_GROUP = 32;

/** A matrix of weights [O, I]: of a linear layer with O outputs and I inputs, or a table of O rows. */
export interface Weight {
  /** [O, I], contiguous: f32, bf16, f16 or i8 */
  readonly values: Tensor;
  /**
   * For i8 alone: [O, I / 32 rounded up] f32, contiguous; what the elements of a group of 32 consecutive ones of a row
   * are to be multiplied by.
   */
  readonly scales?: Tensor;
  /** For f16 alone: true where no element is NaN or infinite, which lets a faster kernel read them. */
  readonly isFinite?: boolean;
}

/** Groups of a row of so many elements, the last of which may be short. */
export function groupsOf(columns: number): number {
  return Math.ceil(columns / WEIGHT_GROUP);
}

/** Bytes of a matrix of that size which a checkpoint stores in `dtype`, as it is kept. */
export function matrixBytes(kind: WeightKind, dtype: StoredDType, rows: number, columns: number): number {
  if (kind === "stored") return rows * columns * DTYPE_BYTES[dtype];
  return rows * (columns + 4 * groupsOf(columns));
}
