// How ranks tell each other where tensors lie on the device that they share.
import { fromPlainError, type PlainError, type ProcessGroup, toPlainError } from "@lockstep/dist-groups";
import type { GpuTensor } from "@lockstep/kernels";
import type { SharedHeap } from "@lockstep/tensor";
import { FenceFailed } from "./errors.ts";
import { meet, newMessage, textOf } from "./meeting.ts";
import type { GpuView } from "./op-message.ts";

/** A tensor that a rank shows, and the size of the memory that it is a view of, in bytes. */
export interface ShownTensor extends GpuView {
  readonly memoryBytes: number;
}

type Shown = readonly ShownTensor[] | { readonly error: PlainError };

/**
 * Tells every rank of a group what each shows. Called by all of them.
 * @param own what this rank shows, or why it cannot
 * @returns of each rank
 * @throws on every rank when one cannot, and when one calls something else
 */
export function showTensors(
  group: ProcessGroup,
  heap: SharedHeap,
  own: readonly ShownTensor[] | { readonly failure: unknown },
  deadlineMs: number | undefined,
): readonly (readonly ShownTensor[])[] {
  const isFailure = "failure" in own;
  const told = newMessage(heap, "shown", JSON.stringify(isFailure ? { error: toPlainError(own.failure) } : own));
  let shown: Shown[];
  try {
    const read = (all: readonly Uint8Array[]): Shown[] => all.map((one) => JSON.parse(textOf(one)) as Shown);
    shown = meet(group, "shown", told, read, deadlineMs);
  } finally {
    told.free();
  }
  if (isFailure) throw own.failure;
  return shown.map((of, rank) => {
    if ("error" in of) throw new FenceFailed(rank, fromPlainError(of.error).message);
    return of;
  });
}

/** What a rank tells of a tensor of its own, whose memory has a number. */
export function shownTensor(rank: number, id: number, tensor: GpuTensor): ShownTensor {
  const { memory, dtype, shape, strides, elementOffset } = tensor;
  return { rank, id, dtype, shape, strides, elementOffset, memoryBytes: memory.size };
}
