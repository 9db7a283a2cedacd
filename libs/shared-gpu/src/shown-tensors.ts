// How ranks tell each other where tensors lie on the device that they share.
import { fromPlainError, type PlainError, type ProcessGroup, toPlainError } from "@lockstep/dist-groups";
import type { GpuTensor } from "@lockstep/kernels";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import { FenceFailed } from "./errors.ts";
import type { GpuView } from "./op-message.ts";
import { textOf } from "./verdicts.ts";

/** A tensor that a rank shows, and the size of the memory that it is a view of, in bytes. */
export interface ShownTensor extends GpuView {
  readonly memoryBytes: number;
}

type Shown = readonly ShownTensor[] | { readonly error: PlainError };

/**
 * Tells every rank of a group what each shows. Called by all of them.
 * @param own what this rank shows, or why it cannot
 * @returns of each rank
 * @throws on every rank when one cannot
 */
export function showTensors(
  group: ProcessGroup,
  heap: SharedHeap,
  own: readonly ShownTensor[] | { readonly failure: unknown },
  deadlineMs: number | undefined,
): readonly (readonly ShownTensor[])[] {
  const isFailure = "failure" in own;
  const text = JSON.stringify(isFailure ? { error: toPlainError(own.failure) } : own);
  const bytes = new TextEncoder().encode(text);
  const told = Tensor.from(heap, "u8", [bytes.length], bytes);
  let shown: Shown[];
  try {
    const read = (all: readonly (readonly Tensor[])[]): Shown[] => all.map(([one]) => JSON.parse(textOf(one)) as Shown);
    shown = group.readPeers([told], read, { deadlineMs });
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
