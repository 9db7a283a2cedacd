import type { Combine } from "@lockstep/attention";
import type { MethodsOf, World } from "@lockstep/dist-groups";
import { Arena, Tensor } from "@lockstep/tensor";
import type * as program from "./attention-program.ts";
import type { AttentionRun } from "./attention-program.ts";
import { attentionSettings } from "./attention-settings.ts";
import { numberField, numberList, type ReferenceCase, ReferenceFileError } from "./reference-file.ts";
import { compare, type Deviation, F32_TOLERANCE, HALF_INPUT_TOLERANCE, NO_DEVIATION, worse } from "./tolerance.ts";

/** A world whose ranks run the attention program. */
export type AttentionWorld = World<MethodsOf<typeof program>>;

/** Tokens a block holds in every run on a rank of weight 1: the interleaves 1 and 16 divide it. */
const BLOCK_SIZE = 16;
const COMBINES: readonly Combine[] = ["ag-rs", "a2a", "one-shot"];

/** How tokens are dealt to so many ranks: evenly, or the more to a rank the earlier it comes. */
function deals(ranks: number): readonly Pick<AttentionRun, "interleave" | "weights">[] {
  const even = [{ interleave: 1 }, { interleave: 16 }];
  if (ranks === 1) return even;
  return [...even, { interleave: 1, weights: Array.from({ length: ranks }, (_, rank) => ranks - rank) }];
}

/** Runs an `attention` case sharded over the ranks of a world, with every deal and combine. */
export async function checkAttention(reference: ReferenceCase, world: AttentionWorld): Promise<Deviation> {
  const { file, id } = reference;
  const arena = new Arena(world.heap, Math.min(world.heap.largestFreeBytes, 64 << 20));
  try {
    const expectedOut = file.readNumbers(`${id}.out`);
    const expectedLse = file.readNumbers(`${id}.lse`);
    const { run, out, lse, isExact } = readCase(reference, arena);
    const tolerance = isExact ? F32_TOLERANCE : HALF_INPUT_TOLERANCE;
    let deviation = NO_DEVIATION;
    for (const deal of deals(world.size)) {
      for (const combine of COMBINES) {
        out.fill(Number.NaN);
        lse.fill(Number.NaN);
        await world.call("run", [{ ...run, ...deal, combine }]);
        deviation = worse(deviation, compare(out.toNumbers(), expectedOut, tolerance));
        deviation = worse(deviation, compare(lse.toNumbers(), expectedLse, tolerance));
      }
    }
    return deviation;
  } finally {
    arena.close();
  }
}

/** What the ranks are told of a case, but for deal and combine, and where they write. */
function readCase(
  reference: ReferenceCase,
  arena: Arena,
): {
  readonly run: Omit<AttentionRun, "interleave" | "weights" | "combine">;
  readonly out: Tensor;
  readonly lse: Tensor;
  /** Inputs in f32. */
  readonly isExact: boolean;
} {
  const { file, id } = reference;
  const key = file.read(`${id}.k`, arena);
  const value = file.has(`${id}.v`) ? file.read(`${id}.v`, arena) : undefined;
  const settings = attentionSettings(reference, key.dtype, key.dim(1), value !== undefined);
  const { lengths, queries, kvDtype, kvScales, softcap, window, lseBase } = settings;
  const { query, queryScale } = readQuery(reference, arena);
  const valueDim = value?.dim(2) ?? file.stored(`${id}.out`).shape[2] ?? 0;
  const sinks = readSinks(reference, query.dim(1), arena);
  const out = Tensor.empty(arena, "f32", [query.dim(0), query.dim(1), valueDim]);
  const lse = Tensor.empty(arena, "f32", [query.dim(0), query.dim(1)]);
  return {
    run: {
      query: query.descriptor,
      key: key.descriptor,
      ...(value === undefined ? {} : { value: value.descriptor }),
      lengths,
      queries,
      kvDtype,
      ...(kvScales === undefined ? {} : { kvScales }),
      ...(queryScale === undefined ? {} : { queryScale }),
      scale: settings.scale ?? 1 / Math.sqrt(query.dim(2)),
      ...(softcap === undefined ? {} : { softcap }),
      ...(window === undefined ? {} : { window }),
      ...(sinks === undefined ? {} : { sinks: sinks.descriptor }),
      lseBase,
      blockSize: BLOCK_SIZE,
      out: out.descriptor,
      lse: lse.descriptor,
    },
    out,
    lse,
    isExact: kvDtype === "f32" && query.dtype === "f32" && queryScale === undefined,
  };
}

/**
 * Queries in a float dtype; 8-bit ones as the numbers they stand for, to be rounded to the same bits before the gather.
 */
function readQuery(reference: ReferenceCase, arena: Arena): { query: Tensor; queryScale?: number } {
  const { file, id } = reference;
  const query = file.read(`${id}.q`, arena);
  const scale = numberField(reference, "q_scale");
  if (query.dtype !== "f8e4m3") return scale === undefined ? { query } : { query, queryScale: scale };
  const queryScale = scale ?? 1;
  const numbers = query.toNumbers().map((number) => number * queryScale);
  return { query: Tensor.from(arena, "f32", query.shape, numbers), queryScale };
}

/** Sinks [1, Hq] from the tensor or the field of that name. */
function readSinks(reference: ReferenceCase, heads: number, arena: Arena): Tensor | undefined {
  const { file, id, fields } = reference;
  const fromFile = file.has(`${id}.sinks`);
  if (!fromFile && (fields.sinks ?? undefined) === undefined) return undefined;
  const numbers = fromFile ? [...file.readNumbers(`${id}.sinks`)] : numberList(reference, "sinks");
  if (numbers.length === heads) return Tensor.from(arena, "f32", [1, heads], numbers);
  throw new ReferenceFileError(file.path, `expected ${heads} \`sinks\` of ${id}, one per query head`);
}
