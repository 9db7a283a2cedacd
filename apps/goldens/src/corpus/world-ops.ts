// Ops of the corpus that ranks do together, in worlds of as many ranks as a case says.
import { type Combine, headLayout } from "@lockstep/attention";
import { type MethodsOf, openWorld, type ParallelSizes, parallelGroups, type World } from "@lockstep/dist-groups";
import { type Arena, Tensor } from "@lockstep/tensor";
import type { AttentionProgramOptions } from "../attention-program.ts";
import type { CaseParameters } from "./case-parameters.ts";
import { CorpusError } from "./corpus-error.ts";
import type * as program from "./corpus-program.ts";
import type { CaseResults } from "./judge.ts";
import { computed, nonFiniteOf } from "./kernel-ops.ts";
import type { OpName } from "./ops.ts";

type CorpusWorld = World<MethodsOf<typeof program>>;

/** What an op works with, in the heap of its world. */
export interface WorldOpContext {
  readonly world: CorpusWorld;
  readonly sizes: ParallelSizes;
  readonly arena: Arena;
  readonly parameters: CaseParameters;
  readonly input: (name: string) => Tensor;
  readonly optional: (name: string) => Tensor | undefined;
}

type WorldOp = (context: WorldOpContext) => Promise<CaseResults[]>;

/** Ranks and their groups, as a case says. @param ranks as the case's tensors say, where they do */
export function sizesOf(parameters: CaseParameters, ranks: number | undefined): ParallelSizes {
  const world = ranks ?? parameters.number("world") ?? 1;
  if (!parameters.has("layout")) return { layout: "classic", tp: world, dcp: world };
  const layout = parameters.choice("layout", "classic", "orthogonal");
  const size = (name: string): number => parameters.number(name) ?? 1;
  return { layout, pcp: size("pcp"), tp: size("tp"), dcp: size("dcp") };
}

/** Opens a world for these sizes. */
export async function openCorpusWorld(sizes: ParallelSizes, options: AttentionProgramOptions): Promise<CorpusWorld> {
  const { worldSize, kv, query } = parallelGroups(sizes);
  return await openWorld<typeof program>({
    size: worldSize,
    program: new URL("./corpus-program.ts", import.meta.url),
    options,
    groups: { kv, query },
    deadlineMs: 120_000,
  });
}

/** Gathers on all ranks: each must get the whole query. */
const gatherQuery: WorldOp = async ({ world, arena, input }) => {
  const query = input("query");
  const gathered = Tensor.empty(arena, query.dtype, [world.size, ...query.shape]).fill(Number.NaN);
  await world.call("gather", [{ query: query.descriptor, gathered: gathered.descriptor }]);
  return Array.from({ length: world.size }, (_, rank) => ({ gathered: computed(gathered.select(0, rank)) }));
};

const reduceBy =
  (...combines: readonly Combine[]): WorldOp =>
  async ({ world, arena, parameters, input }) => {
    const [outs, lses] = [input("outs"), input("lses")];
    const base = parameters.choice("base", "e", "2");
    const nonFinite = nonFiniteOf(parameters);
    const results: CaseResults[] = [];
    for (const combine of combines) {
      const out = Tensor.empty(arena, outs.dtype, outs.shape.slice(1)).fill(Number.NaN);
      const lse = Tensor.empty(arena, "f32", lses.shape.slice(1)).fill(Number.NaN);
      const into = { out: out.descriptor, lse: lse.descriptor };
      const from = { outs: outs.descriptor, lses: lses.descriptor };
      await world.call("reduce", [{ ...from, ...into, combine, base, nonFinite }]);
      results.push({ out: computed(out), lse: computed(lse) });
    }
    return results;
  };

/** The step with every combine; where several ranks have a head, each must have it right. */
const decodeStep: WorldOp = async (context) => {
  const { world, sizes, arena, parameters, input } = context;
  const [query, key] = [input("query"), input("key")];
  const run = stepRun(context);
  const kv = parameters.choice("kv", "replicated", "head-sharded");
  const heads = query.dim(1);
  const results: CaseResults[] = [];
  for (const combine of ["ag-rs", "a2a", "one-shot"] as const) {
    const out = Tensor.empty(arena, "f32", [world.size, ...run.shape]).fill(Number.NaN);
    const lse = Tensor.empty(arena, "f32", [world.size, ...run.shape.slice(0, 2)]).fill(Number.NaN);
    const into = { out: out.descriptor, lse: lse.descriptor };
    await world.call("step", [{ ...run.step, ...into, kv, sizes, options: { ...run.step.options, combine } }]);
    const owned = Array.from({ length: world.size }, (_, rank) => {
      return headLayout({ sizes, kv, queryHeads: heads, kvHeads: key.dim(1) }, rank).ownQueryHeads;
    });
    const ownersOf = Array.from({ length: heads }, (_, head) =>
      owned.flatMap(({ start, end }, rank) => (head >= start && head < end ? [rank] : [])),
    );
    const copies = Math.max(1, ...ownersOf.map((ranks) => ranks.length));
    for (let copy = 0; copy < copies; copy++) {
      const whole = Tensor.empty(arena, "f32", run.shape).fill(Number.NaN);
      const wholeLse = Tensor.empty(arena, "f32", run.shape.slice(0, 2)).fill(Number.NaN);
      for (const [head, ranks] of ownersOf.entries()) {
        const rank = ranks[copy % ranks.length] ?? 0;
        whole.select(1, head).copyFrom(out.select(0, rank).select(1, head));
        wholeLse.select(1, head).copyFrom(lse.select(0, rank).select(1, head));
      }
      results.push({ out: computed(whole), lse: computed(wholeLse) });
    }
  }
  return results;
};

/** What the ranks are told of a step, but for where results go; and the shape of the output. */
function stepRun({ parameters, input, optional }: WorldOpContext) {
  const [query, key, value, sinks] = [input("query"), input("key"), optional("value"), optional("sinks")];
  const [lengths, queries] = [[...input("lengths").toNumbers()], [...input("queries").toNumbers()]];
  const valueDim = value?.dim(2) ?? parameters.number("value_dim") ?? 0;
  parameters.number("value_dim");
  const weights = parameters.numbers("weights");
  const shards = weights?.reduce((sum, weight) => sum + weight, 0) ?? parameters.number("world") ?? 1;
  parameters.number("world");
  const blockSize = parameters.number("block_size") ?? 1;
  const numBlocks = lengths.reduce((sum, length) => sum + Math.ceil(length / (blockSize * shards)), 1);
  const [interleave = 1, scale, softcap, window] = ["interleave", "scale", "softcap", "window"].map((name) =>
    parameters.number(name),
  );
  const step = {
    query: query.descriptor,
    key: key.descriptor,
    ...(value === undefined ? {} : { value: value.descriptor }),
    ...(sinks === undefined ? {} : { sinks: sinks.reshape([1, query.dim(1)]).descriptor }),
    lengths,
    queries,
    blockSize,
    numBlocks,
    options: {
      interleave,
      ...(weights === undefined ? {} : { weights }),
      ...(scale === undefined ? {} : { scale }),
      ...(softcap === undefined ? {} : { softcap }),
      ...(window === undefined ? {} : { window }),
    },
  };
  return { step, shape: [query.dim(0), query.dim(1), valueDim] };
}

/** By name. */
export const WORLD_OPS: Readonly<Partial<Record<OpName, WorldOp>>> = {
  gather_query: gatherQuery,
  reduce_output: reduceBy("ag-rs", "one-shot"),
  a2a_combine: reduceBy("a2a"),
  decode_step: decodeStep,
};

/** Throws CorpusError unless the case's number of shards is that of its groups. */
export function expectWorld(path: string, name: string, parameters: CaseParameters, sizes: ParallelSizes): void {
  const world = parameters.number("world");
  const { kvShards } = parallelGroups(sizes);
  if (world === undefined || world === kvShards) return;
  throw new CorpusError(path, `expected \`world\` of ${name} to be ${kvShards}, as its layout has, but found ${world}`);
}
