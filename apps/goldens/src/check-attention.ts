import type { Combine } from "@lockstep/attention";
import type { MethodsOf, World } from "@lockstep/dist-groups";
import { Arena, Tensor } from "@lockstep/tensor";
import type * as program from "./attention-program.ts";
import { numberField, numberList, type ReferenceCase } from "./reference-file.ts";
import { compare, type Deviation, F32_TOLERANCE, HALF_INPUT_TOLERANCE, NO_DEVIATION, worse } from "./tolerance.ts";

/** A world whose ranks run the attention program. */
export type AttentionWorld = World<MethodsOf<typeof program>>;

/** Tokens a block holds in every run: the interleaves 1 and 16 divide it. */
const BLOCK_SIZE = 16;
const INTERLEAVES = [1, 16] as const;
const COMBINES: readonly Combine[] = ["ag-rs", "a2a"];

/** Runs an `attention` case sharded over the ranks of a world, with interleave 1 and 16 and both combines. */
export async function checkAttention(reference: ReferenceCase, world: AttentionWorld): Promise<Deviation> {
  const { file, id } = reference;
  const arena = new Arena(world.heap, Math.min(world.heap.largestFreeBytes, 64 << 20));
  try {
    const query = file.read(`${id}.q`, arena);
    const key = file.read(`${id}.k`, arena);
    const value = file.read(`${id}.v`, arena);
    const expectedOut = file.readNumbers(`${id}.out`);
    const expectedLse = file.readNumbers(`${id}.lse`);
    const lengths = numberList(reference, "lens");
    const scale = numberField(reference, "scale") ?? 1 / Math.sqrt(query.dim(2));
    const softcap = numberField(reference, "softcap");
    const window = numberField(reference, "window");
    const out = Tensor.empty(arena, "f32", [query.dim(0), query.dim(1), value.dim(2)]);
    const lse = Tensor.empty(arena, "f32", [query.dim(0), query.dim(1)]);
    const tolerance = key.dtype === "f32" && query.dtype === "f32" ? F32_TOLERANCE : HALF_INPUT_TOLERANCE;
    let deviation = NO_DEVIATION;
    for (const interleave of INTERLEAVES) {
      for (const combine of COMBINES) {
        out.fill(Number.NaN);
        lse.fill(Number.NaN);
        await world.call("run", [
          {
            query: query.descriptor,
            key: key.descriptor,
            value: value.descriptor,
            lengths,
            scale,
            ...(softcap === undefined ? {} : { softcap }),
            ...(window === undefined ? {} : { window }),
            interleave,
            blockSize: BLOCK_SIZE,
            combine,
            out: out.descriptor,
            lse: lse.descriptor,
          },
        ]);
        deviation = worse(deviation, compare(out.toNumbers(), expectedOut, tolerance));
        deviation = worse(deviation, compare(lse.toNumbers(), expectedLse, tolerance));
      }
    }
    return deviation;
  } finally {
    arena.close();
  }
}
