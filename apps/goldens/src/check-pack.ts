import { packSeq, unpackSeq } from "@lockstep/attention";
import type { KernelBackend } from "@lockstep/kernels";
import { Arena, type SharedHeap } from "@lockstep/tensor";
import { numberList, type ReferenceCase, ReferenceFileError } from "./reference-file.ts";
import type { Deviation } from "./tolerance.ts";

/** Runs packSeq and unpackSeq on a `pack` case on one backend; every byte must agree. */
export async function checkPack(
  reference: ReferenceCase,
  backend: KernelBackend,
  heap: SharedHeap,
): Promise<Deviation> {
  const { file, id } = reference;
  const arena = new Arena(heap, Math.floor(heap.largestFreeBytes / 2));
  try {
    const lengths = file.has(`${id}.lengths`) ? file.readNumbers(`${id}.lengths`) : numberList(reference, "lengths");
    const x = file.read(`${id}.x`, arena);
    const expectedPacked = file.read(`${id}.packed`, arena);
    const expectedUnpacked = file.read(`${id}.unpacked`, arena);
    const padValue = padField(reference);
    const packed = await packSeq(backend, x, lengths, { padValue, allocator: arena });
    const unpacked = await unpackSeq(backend, expectedPacked, lengths, { allocator: arena });
    const equal = sameBytes(packed.bytes, expectedPacked.bytes) && sameBytes(unpacked.bytes, expectedUnpacked.bytes);
    const error = equal ? 0 : Number.POSITIVE_INFINITY;
    return { maxError: error, worst: error };
  } finally {
    arena.close();
  }
}

function padField(reference: ReferenceCase): number {
  const pad = reference.fields.pad ?? "-inf";
  const value = pad === "-inf" ? Number.NEGATIVE_INFINITY : pad === "inf" ? Number.POSITIVE_INFINITY : Number(pad);
  if (Number.isNaN(value)) {
    throw new ReferenceFileError(reference.file.path, `expected \`pad\` of ${reference.id} to be a number or "-inf"`);
  }
  return value;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
