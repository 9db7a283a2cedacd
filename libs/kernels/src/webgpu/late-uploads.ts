import type { Tensor } from "@lockstep/tensor";
import { gatherTensor } from "./strided-copy.ts";

/** A large heap operand whose bytes are to lie at `offset` of what goes up. */
export interface LateUpload {
  readonly tensor: Tensor;
  readonly offset: number;
}

/** Bytes of operands that are still to be gathered. */
export function lateBytes(late: readonly LateUpload[]): number {
  return late.reduce((sum, { tensor }) => sum + tensor.byteLength, 0);
}

/** Gathers operands to their places in what goes up. */
export function gatherLate(late: readonly LateUpload[], target: ArrayBuffer): void {
  for (const { tensor, offset } of late) gatherTensor(tensor, target, offset);
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
  for (const { tensor, offset } of late) {
    to.set(new Uint8Array(staging, from, offset - from), from);
    from = offset + tensor.byteLength;
  }
  to.set(new Uint8Array(staging, from, bytes - from), from);
}
