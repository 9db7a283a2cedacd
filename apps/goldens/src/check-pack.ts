import { packSeq, unpackSeq } from "@lockstep/attention";
import type { KernelBackend } from "@lockstep/kernels";
import { Arena, type SharedHeap, type Tensor } from "@lockstep/tensor";
import { packLengths, padField } from "./pack-settings.ts";
import type { ReferenceCase } from "./reference-file.ts";
import type { Deviation } from "./tolerance.ts";

/** Runs packSeq and unpackSeq on a `pack` case on one backend; dtypes, shapes and every byte must agree. */
export async function checkPack(
  reference: ReferenceCase,
  backend: KernelBackend,
  heap: SharedHeap,
): Promise<Deviation> {
  const { file, id } = reference;
  const arena = new Arena(heap, Math.floor(heap.largestFreeBytes / 2));
  try {
    const lengths = packLengths(reference);
    const x = file.read(`${id}.x`, arena);
    const expectedPacked = file.read(`${id}.packed`, arena);
    const expectedUnpacked = file.read(`${id}.unpacked`, arena);
    const padValue = padField(reference);
    const packed = await packSeq(backend, x, lengths, { padValue, allocator: arena });
    const unpacked = await unpackSeq(backend, expectedPacked, lengths, { allocator: arena });
    const equal = sameTensor(packed, expectedPacked) && sameTensor(unpacked, expectedUnpacked);
    const error = equal ? 0 : Number.POSITIVE_INFINITY;
    return { maxError: error, worst: error };
  } finally {
    arena.close();
  }
}

function sameTensor(a: Tensor, b: Tensor): boolean {
  const isAlike = a.dtype === b.dtype && a.rank === b.rank && a.shape.every((size, dim) => size === b.shape[dim]);
  return isAlike && Buffer.compare(a.bytes, b.bytes) === 0;
}
