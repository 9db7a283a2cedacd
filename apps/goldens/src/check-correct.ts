import { dcpCorrectAttnOut } from "@lockstep/attention";
import type { KernelBackend } from "@lockstep/kernels";
import { Arena, type SharedHeap, Tensor } from "@lockstep/tensor";
import { type ReferenceCase, ReferenceFileError } from "./reference-file.ts";
import { compare, type Deviation, F32_TOLERANCE, NO_DEVIATION, toleranceFor, worse } from "./tolerance.ts";

/** Runs the correction of every rank of a `correct` case on one backend and compares outputs and LSEs. */
export async function checkCorrect(
  reference: ReferenceCase,
  backend: KernelBackend,
  heap: SharedHeap,
): Promise<Deviation> {
  const { file, id, fields } = reference;
  const base = fields.base ?? "e";
  if (base !== "e" && base !== "2")
    throw new ReferenceFileError(file.path, `expected \`base\` of ${id} to be "e" or "2"`);
  const arena = new Arena(heap, Math.floor(heap.largestFreeBytes / 2));
  try {
    const outs = file.read(`${id}.out`, arena);
    const lses = file.read(`${id}.lses`, arena);
    const expected = file.read(`${id}.corrected`, arena);
    const expectedLse = file.readNumbers(`${id}.lse`);
    let deviation = NO_DEVIATION;
    for (let rank = 0; rank < outs.dim(0); rank++) {
      const out = outs.select(0, rank);
      const partial = out.toNumbers();
      const into = Tensor.empty(arena, out.dtype, out.shape).fill(Number.NaN);
      const { lse } = await dcpCorrectAttnOut(backend, out, lses, rank, { base, into, allocator: arena });
      const corrected = into.toNumbers();
      // The original multiplies a factor of 0 into NaN or infinity and keeps NaN: the row is defined to be 0.
      const exempt = (index: number): boolean => corrected[index] === 0 && !Number.isFinite(partial[index] ?? 0);
      const tolerance = toleranceFor(out.dtype);
      deviation = worse(deviation, compare(corrected, expected.select(0, rank).toNumbers(), tolerance, exempt));
      deviation = worse(deviation, compare(lse.toNumbers(), expectedLse, F32_TOLERANCE));
    }
    return deviation;
  } finally {
    arena.close();
  }
}
