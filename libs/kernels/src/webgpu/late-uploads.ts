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

/**
 * A large operand, of heap tensors that together fill `bytes` from `offset` on of what goes up. Without pieces it is a
 * hole: room beside such operands that the GPU fills, and nothing goes up to.
 */
export interface LateUpload {
  readonly pieces: readonly UploadPiece[];
  readonly offset: number;
  readonly bytes: number;
}

/** Bytes of operands that are still to be gathered. */
export function lateBytes(late: readonly LateUpload[]): number {
  return late.reduce((sum, one) => sum + (isHole(one) ? 0 : one.bytes), 0);
}

/** True for room that nothing goes up to. */
export function isHole({ pieces }: LateUpload): boolean {
  return pieces.length === 0;
}

/** Bytes [start, end) of what goes up between the holes of `bytes` in all. */
export function betweenHoles(late: readonly LateUpload[], bytes: number): { start: number; end: number }[] {
  const ranges: { start: number; end: number }[] = [];
  let start = 0;
  for (const { offset, bytes: skipped } of late.filter(isHole)) {
    if (offset > start) ranges.push({ start, end: offset });
    start = offset + skipped;
  }
  if (bytes > start) ranges.push({ start, end: bytes });
  return ranges;
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
