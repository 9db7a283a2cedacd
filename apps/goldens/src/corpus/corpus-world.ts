// Worlds in which ranks do the ops of the corpus that they do together.
import { type MethodsOf, openWorld, type ParallelSizes, parallelGroups, type World } from "@lockstep/dist-groups";
import type { Arena, Tensor } from "@lockstep/tensor";
import type { AttentionProgramOptions } from "../attention-program.ts";
import type { CaseParameters } from "./case-parameters.ts";
import { CorpusError } from "./corpus-error.ts";
import type * as program from "./corpus-program.ts";
import type { CaseResults } from "./judge.ts";

/** An open world of the corpus. */
export type CorpusWorld = World<MethodsOf<typeof program>>;

/** What an op works with, in the heap of its world. */
export interface WorldOpContext {
  readonly world: CorpusWorld;
  readonly sizes: ParallelSizes;
  readonly arena: Arena;
  readonly parameters: CaseParameters;
  readonly input: (name: string) => Tensor;
  readonly optional: (name: string) => Tensor | undefined;
}

/** An op that ranks do together: what it gives in each of the ways that it is run. */
export type WorldOp = (context: WorldOpContext) => Promise<CaseResults[]>;

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
  const { worldSize, kv, query, pcp } = parallelGroups(sizes);
  return await openWorld<typeof program>({
    size: worldSize,
    program: new URL("./corpus-program.ts", import.meta.url),
    options,
    groups: { kv, query, pcp },
    deadlineMs: 120_000,
  });
}

/** Throws CorpusError unless the case's number of shards is that of its groups. */
export function expectWorld(path: string, name: string, parameters: CaseParameters, sizes: ParallelSizes): void {
  const world = parameters.number("world");
  const { kvShards } = parallelGroups(sizes);
  if (world === undefined || world === kvShards) return;
  throw new CorpusError(path, `expected \`world\` of ${name} to be ${kvShards}, as its layout has, but found ${world}`);
}
