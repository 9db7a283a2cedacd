import { dcpCorrectAttnOut } from "@lockstep/attention";
import type { KernelBackend, LseBase } from "@lockstep/kernels";
import { Arena, type SharedHeap, Tensor } from "@lockstep/tensor";
import { type ReferenceCase, ReferenceFileError } from "./reference-file.ts";
import { compare, type Deviation, F32_TOLERANCE, NO_DEVIATION, toleranceFor, worse } from "./tolerance.ts";

/** Runs the correction of every rank of a `correct` case on one backend and compares outputs and LSEs. */
export async function checkCorrect(
  reference: ReferenceCase,
  backend: KernelBackend,
  heap: SharedHeap,
): Promise<Deviation> {
  const { file, id } = reference;
  const base = correctBase(reference);
  const arena = new Arena(heap, Math.floor(heap.largestFreeBytes / 2));
  try {
    const outs = file.read(`${id}.out`, arena);
    const lses = file.read(`${id}.lses`, arena);
    const expected = file.read(`${id}.corrected`, arena);
    const expectedLse = file.readNumbers(`${id}.lse`);
    let deviation = NO_DEVIATION;
    for (let rank = 0; rank < outs.dim(0); rank++) {
      const partialOut = outs.select(0, rank);
      const partial = partialOut.toNumbers();
      const out = Tensor.empty(arena, partialOut.dtype, partialOut.shape).fill(Number.NaN);
      const { lse } = await dcpCorrectAttnOut(backend, partialOut, lses, rank, { base, out, allocator: arena });
      const corrected = out.toNumbers();
      // The original multiplies a factor of 0 into NaN or infinity and keeps NaN: the row is defined to be 0.
      const isZero = zeroFactors(lses, rank, base);
      const exempt = (index: number): boolean =>
        isZero[Math.floor(index / out.dim(2))] === true && !Number.isFinite(partial[index] ?? 0);
      const tolerance = toleranceFor(out.dtype);
      deviation = worse(deviation, compare(corrected, expected.select(0, rank).toNumbers(), tolerance, exempt));
      deviation = worse(deviation, compare(lse.toNumbers(), expectedLse, F32_TOLERANCE));
    }
    return deviation;
  } finally {
    arena.close();
  }
}

/** For each row [B, H], whether the rank's factor is 0 in f32, by the definition in float64. */
function zeroFactors(lses: Tensor, rank: number, base: LseBase): boolean[] {
  const power = (exponent: number): number => (base === "2" ? 2 ** exponent : Math.exp(exponent));
  const states = Array.from({ length: lses.dim(0) }, (_, state) =>
    lses
      .select(0, state)
      .toNumbers()
      .map((lse) => (Number.isFinite(lse) ? lse : Number.NEGATIVE_INFINITY)),
  );
  return Array.from(states[rank] ?? [], (own, row) => {
    const max = Math.max(...states.map((state) => state[row] ?? Number.NEGATIVE_INFINITY));
    if (own === Number.NEGATIVE_INFINITY) return true;
    const sum = states.reduce((total, state) => total + power((state[row] ?? Number.NEGATIVE_INFINITY) - max), 0);
    return power(own - max) / sum < 2 ** -126;
  });
}

/** The base of a case's LSEs. @throws ReferenceFileError */
export function correctBase({ file, id, fields }: ReferenceCase): LseBase {
  const base = fields.base ?? "e";
  if (base === "e" || base === "2") return base;
  throw new ReferenceFileError(file.path, `expected \`base\` of ${id} to be "e" or "2"`);
}
