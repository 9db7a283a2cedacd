import { fileURLToPath } from "node:url";
import { readExpectations } from "@lockstep/demo/expectations";
import { openWorld, parallelGroups } from "@lockstep/dist-groups";
import { openModel } from "@lockstep/language-model";
import { hostHeapBytes } from "../../libs/language-model/src/generation/memory-plan.ts";
import { gpuGroups } from "../../libs/language-model/src/generation/rank-backend.ts";
import { resolveOptions } from "../../libs/language-model/src/generation/resolve-options.ts";
import { TokenStream } from "../../libs/language-model/src/generation/token-stream.ts";
import { printTable } from "../print-table.ts";
import type { PartTimes, StepProfile } from "./program.ts";

const demoFile = (path: string): string => fileURLToPath(new URL(`../../apps/demo/${path}`, import.meta.url));

type Program = typeof import("./program.ts");

/** Texts that only warm up, and texts that are profiled. */
const [WARM_UP, TEXTS] = [24, 24];
/** Tokens between two answers of the ranks. */
const STEPS = 32;

/** Rows of the table, in order; what is measured besides comes after them. */
const ROWS = [
  "linear layers",
  "other layers",
  "attention",
  "gather of queries",
  "combine of partial results",
  "all-reduce",
  "begin and end of a step",
  "all-gather of the choice",
];

/** One text after another on a world of ranks: what a token costs there. */
interface WorldProfile {
  readonly heading: string;
  readonly tokens: number;
  /** Microseconds of a token, wall time. */
  readonly wall: number;
  /** Of the slowest rank in each part. */
  readonly ranks: readonly StepProfile[];
}

/**
 * Where the time of a decode step goes on 1, 2 and 4 ranks: microseconds of each part, collectives and waits of a
 * token. Tokens are compared with the ones another implementation generated.
 */
export async function benchStepProfile(): Promise<void> {
  console.log(
    "\nA decode step of the demo model on the wasm backend: us a token, the slowest rank of each part; in brackets\n" +
      "what it would be if every call took as long as the one in the middle. Collectives contain their waits.",
  );
  const profiles: WorldProfile[] = [];
  for (const world of [1, 2, 4]) profiles.push(await profileWorld(world));
  const known = new Set([
    ...ROWS,
    ...profiles.flatMap(({ ranks }) => ranks.flatMap(({ parts }) => Object.keys(parts))),
  ]);
  const rows = [...known].map((part) => [part, ...profiles.map((profile) => partOf(profile, part))]);
  const of = (label: string, value: (profile: WorldProfile) => string): string[] => [label, ...profiles.map(value)];
  const most = (values: readonly number[]): number => Math.max(...values);
  printTable(
    ["part", ...profiles.map(({ heading }) => heading)],
    [
      ...rows,
      of("JavaScript, and the rest", (profile) => (profile.wall - sumOfParts(profile)).toFixed(0)),
      of("a token, with these clocks", ({ wall }) => wall.toFixed(0)),
      of("collectives a token", ({ ranks, tokens }) => most(ranks.map((rank) => rank.collectives / tokens)).toFixed(1)),
      of("waits a token, beyond 6 us each", ({ ranks, tokens }) =>
        most(ranks.map((rank) => rank.waited / tokens)).toFixed(0),
      ),
    ],
  );
}

/** The time of a part, and in brackets that of its calls if all were like the one in the middle. */
function partOf({ ranks, tokens }: WorldProfile, part: string): string {
  const times = ranks.map(({ parts }) => parts[part]).filter((time) => time !== undefined);
  const [slowest] = times.toSorted((a, b) => b.sum - a.sum);
  return slowest === undefined ? "-" : formatPart(slowest, tokens);
}

function formatPart({ calls, sum, median }: PartTimes, tokens: number): string {
  const mean = (sum / tokens).toFixed(0);
  return Number.isNaN(median) ? mean : `${mean} (${((calls * median) / tokens).toFixed(0)})`;
}

function sumOfParts({ ranks, tokens }: WorldProfile): number {
  const sums = ranks.map(({ parts }) => Object.values(parts).reduce((total, { sum }) => total + sum, 0));
  return Math.max(...sums) / tokens;
}

async function profileWorld(size: number): Promise<WorldProfile> {
  const model = openModel(demoFile("model"));
  const [text] = readExpectations(demoFile("goldens/greedy_public.json"), model.config.vocabularySize);
  if (text === undefined) throw new Error("the expectations have no text");
  const capacity = text.promptIds.length + text.greedyIds.length;
  const { rank, heapBytesPerRank } = resolveOptions(model, { world: size, backend: "wasm", capacity });
  const { dcp } = rank.sizes;
  await using world = await openWorld<Program>({
    size,
    program: new URL("./program.ts", import.meta.url),
    options: rank,
    heapBytesPerRank,
    groups: { dcp: parallelGroups({ layout: "classic", tp: size, dcp }).dcp, gpu: gpuGroups(size, 1) },
    heapBytesHost: hostHeapBytes(rank.maxLogitRows),
  });
  const stream = TokenStream.create(world.heap, STEPS * rank.maxLogitRows);
  const batch = { endTokens: [], maxStepTokens: rank.maxStepTokens, prefillChunk: undefined, maxDraft: 0 };

  /** Milliseconds of all steps but the first, which computes the prompt. */
  const decode = async (): Promise<number> => {
    const { promptIds: prompt, greedyIds } = text;
    await world.call("begin", [[{ prompt, maxTokens: greedyIds.length }], batch, undefined]);
    const tokens: number[] = [];
    const advance = async (steps: number): Promise<void> => {
      stream.clear();
      await world.call("advance", [steps, stream.descriptor]);
      for await (const { token } of stream.read(Promise.resolve())) tokens.push(token);
    };
    await advance(1);
    await world.call("profile", []);
    const started = performance.now();
    while (tokens.length < greedyIds.length) await advance(STEPS);
    const took = performance.now() - started;
    if (tokens.join() !== greedyIds.join()) throw new Error(`world ${size}: wrong tokens`);
    return took;
  };

  for (let warm = 0; warm < WARM_UP; warm++) await decode();
  const profiles: { readonly took: number; readonly ranks: readonly StepProfile[] }[] = [];
  for (let count = 0; count < TEXTS; count++) {
    profiles.push({ took: await decode(), ranks: await world.call("profile", []) });
  }
  // The text in the middle: other programs on the machine only ever add.
  const [middle] = profiles.toSorted((a, b) => a.took - b.took).slice(profiles.length >> 1);
  if (middle === undefined) throw new Error("nothing was profiled");
  const tokens = text.greedyIds.length - 1;
  const heading = `${size === 1 ? "1 rank" : `${size} ranks`}${dcp > 1 ? `, DCP ${dcp}` : ""}`;
  return { heading, tokens, wall: (1000 * middle.took) / tokens, ranks: middle.ranks };
}
