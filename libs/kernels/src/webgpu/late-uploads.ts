import type { Tensor } from "@lockstep/tensor";
import { gatherTensor } from "./strided-copy.ts";

/** A heap tensor and where its elements go in what goes up. */
export interface UploadPiece {
  readonly tensor: Tensor;
  /** Byte at which its first element goes. */
  readonly at: number;
  /** In elements. */
  readonly strides: readonly number[];
}

/** A large operand, of heap tensors that together fill `bytes` from `offset` on of what goes up. */
export interface LateUpload {
  readonly pieces: readonly UploadPiece[];
  readonly offset: number;
  readonly bytes: number;
}

/** Bytes of operands that are still to be gathered. */
export function lateBytes(late: readonly LateUpload[]): number {
  return late.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Copies pieces to their places in what goes up. */
export function gatherPieces(pieces: readonly UploadPiece[], target: ArrayBuffer): void {
  for (const { tensor, at, strides } of pieces) gatherTensor(tensor, target, at, strides);
}

/** Gathers operands to their places in what goes up. */
export function gatherLate(late: readonly LateUpload[], target: ArrayBuffer): void {
  for (const { pieces } of late) gatherPieces(pieces, target);
}

/** Copies the bytes of `staging` that no operand is to be gathered to; those lie in the order of their offsets. */
export function copyAround(
  late: readonly LateUpload[],
  staging: ArrayBuffer,
  target: ArrayBuffer,
  bytes: number,
): void {
  const to = new Uint8Array(target);
  let from = 0;
  for (const { offset, bytes: gathered } of late) {
    to.set(new Uint8Array(staging, from, offset - from), from);
    from = offset + gathered;
  }
  to.set(new Uint8Array(staging, from, bytes - from), from);
}
