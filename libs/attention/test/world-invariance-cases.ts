// What the tests of world-invariant attention compute, and the worlds in which they compute it.
import { type MethodsOf, openWorld, type ParallelSizes, parallelGroups, type World } from "@lockstep/dist-groups";
import { isQuantised } from "@lockstep/kernels";
import { type DType, type SharedHeap, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import { expectNear, type PreparedCase, prepareCase } from "./feature-cases.ts";
import type { TestBackend } from "./test-backend.ts";
import type * as program from "./world-invariance-program.ts";
import type { InvariantRun, InvariantSequences } from "./world-invariance-program.ts";

/** Sequences with the features of their attention. */
export interface InvariantCase {
  readonly name: string;
  readonly sequences: InvariantSequences;
  /** Its KV heads are those of two halves of a world. */
  readonly canSplitHeads: boolean;
  readonly out: Tensor;
  readonly lse: Tensor;
  /** What float64 makes of it; undefined where NaN and infinities come in, or queries and results in 16 bits. */
  readonly expected: PreparedCase | undefined;
}

/** A world: its groups, and which ranks split heads how. */
export interface InvariantWorld {
  readonly name: string;
  readonly size: number;
  readonly sizes?: ParallelSizes;
  readonly kv: InvariantRun["kv"];
  readonly groups: Readonly<Record<"kv" | "query" | "pcp", readonly (readonly number[])[]>>;
}

function laidOut(sizes: ParallelSizes, kvHeads: InvariantRun["kv"] = "replicated"): InvariantWorld {
  const { worldSize: size, kv, query, pcp } = parallelGroups(sizes);
  const { layout, tp, pcp: pcpSize = 1, dcp } = sizes;
  const name = `${size} ranks: ${layout} TP${tp} PCP${pcpSize} DCP${dcp}, ${kvHeads} KV heads`;
  return { name, size, sizes, kv: kvHeads, groups: { kv, query, pcp } };
}

const classic = (tp: number, dcp: number, pcp = 1): ParallelSizes => ({ layout: "classic", tp, pcp, dcp });
const orthogonal = (tp: number, pcp: number, dcp: number): ParallelSizes => ({ layout: "orthogonal", tp, pcp, dcp });

/** The one that all others must be equal to. */
export const ALONE = laidOut(classic(1, 1));
export const WORLDS: readonly InvariantWorld[] = [
  laidOut(classic(2, 2)),
  laidOut(classic(3, 3)),
  laidOut(classic(4, 4)),
  laidOut(classic(5, 5)),
  laidOut(classic(8, 8)),
  laidOut(classic(4, 2)),
  laidOut(classic(2, 2, 2)),
  laidOut(classic(4, 2), "head-sharded"),
  laidOut(orthogonal(1, 3, 3)),
  laidOut(orthogonal(2, 2, 4)),
  {
    name: "4 ranks: queries gathered over all, tokens over pairs",
    size: 4,
    kv: "replicated",
    groups: {
      kv: [
        [0, 1],
        [2, 3],
      ],
      query: [[0, 1, 2, 3]],
      pcp: [[0], [1], [2], [3]],
    },
  },
];

/** Cases of every dtype and feature, which follow from a seed. */
export function invariantCases(heap: SharedHeap, count: number, seed: number): InvariantCase[] {
  return Array.from({ length: count }, (_, at) => invariantCase(heap, at, 1000 * seed + at));
}

const KV_DTYPES: readonly DType[] = ["f32", "i8", "f16", "f8e4m3", "bf16"];

function invariantCase(heap: SharedHeap, at: number, seed: number): InvariantCase {
  const random = new RandomStream(seed);
  const of = <T>(...values: readonly T[]): T => {
    const value = values[random.below(values.length)];
    if (value === undefined) throw new RangeError("nothing to choose from");
    return value;
  };
  const kvDtype = KV_DTYPES[at % KV_DTYPES.length] ?? "f32";
  const isLatent = random.below(4) === 0;
  const [queryHeads, kvHeads] = isLatent ? [8, 1] : of([8, 2], [8, 4], [8, 2], [10, 2], [8, 8]);
  const [keyDim, valueDim] = of([12, 10], [16, 16], [7, 5], [64, 32], [33, 1]);
  const lengths = Array.from({ length: 1 + random.below(3) }, () => 1 + random.below(90));
  const window = random.below(3) === 0 ? 1 + random.below(50) : undefined;
  const softcap = random.below(3) === 0 ? 4 : undefined;
  const hasSinks = random.below(3) === 0;
  const queryDtype = of<DType>("f32", "f32", "f32", "f16", "bf16");
  const isPoisoned = !isQuantised(kvDtype) && random.below(3) === 0;
  const name = [
    `case ${at}: ${kvDtype}, ${queryHeads} heads over ${kvHeads}, dims ${keyDim} and ${valueDim}`,
    `${isLatent ? "MLA, " : ""}lengths ${lengths.join(" ")}, window ${window}, softcap ${softcap}`,
    `queries in ${queryDtype}, ${hasSinks ? "sinks, " : ""}${isPoisoned ? "poisoned" : "finite"}`,
  ].join(", ");
  const prepared = prepareCase(
    {
      name,
      steps: [lengths],
      queryHeads,
      kvHeads,
      keyDim,
      valueDim,
      kvDtype,
      blockSize: 1,
      ...(hasSinks ? { sinks: Array.from({ length: queryHeads }, () => random.normal()) } : {}),
      options: {
        ...(isLatent ? { mla: true } : {}),
        ...(window === undefined ? {} : { window }),
        ...(softcap === undefined ? {} : { softcap }),
        scale: of(1 / Math.sqrt(keyDim), 3),
      },
    },
    heap,
    seed,
  );
  const { replay, out, lse } = prepared;
  const { query, key, value, sinks, options } = replay;
  if (isPoisoned) for (const descriptor of [key, value ?? key]) poison(Tensor.fromDescriptor(descriptor, heap), random);
  const { mla, window: seen, softcap: cap, scale } = options;
  return {
    name,
    canSplitHeads: kvHeads === 2,
    sequences: {
      lengths,
      query,
      key,
      out: out.descriptor,
      lse: lse.descriptor,
      kvDtype,
      queryDtype,
      options: {
        ...(mla === undefined ? {} : { mla }),
        ...(seen === undefined ? {} : { window: seen }),
        ...(cap === undefined ? {} : { softcap: cap }),
        ...(scale === undefined ? {} : { scale }),
      },
      ...(value === undefined ? {} : { value }),
      ...(sinks === undefined ? {} : { sinks }),
    },
    out,
    lse,
    expected: isPoisoned || queryDtype !== "f32" ? undefined : prepared,
  };
}

/** A few numbers that are not finite, in a few rows. */
function poison(rows: Tensor, random: RandomStream): void {
  const wild = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let times = 0; times < 2; times++) {
    rows
      .select(0, random.below(rows.dim(0)))
      .select(0, random.below(rows.dim(1)))
      .slice(0, 0, 1)
      .fill(wild[random.below(3)] ?? Number.NaN);
  }
}

/** One of the many ways in which a world may go through a case. */
export function drawnRun(
  { sizes, kv, groups }: InvariantWorld,
  { sequences, canSplitHeads }: InvariantCase,
  seed: number,
): InvariantRun {
  const { lengths } = sequences;
  const random = new RandomStream(seed);
  const interleave = 1 + random.below(4);
  const [shards = []] = groups.kv;
  const weights = shards.map(() => random.below(4));
  const isWeighted = random.below(3) === 0 && weights.some((weight) => weight > 0);
  return {
    ...(sizes === undefined ? {} : { sizes }),
    kv: canSplitHeads ? kv : "replicated",
    steps: drawnSteps(lengths, random),
    blockSize: interleave * (1 + random.below(4)),
    interleave,
    ...(isWeighted ? { weights } : {}),
    prefillChunk: 1 + random.below(random.below(2) === 0 ? 12 : 200),
    combine: (["auto", "a2a", "ag-rs"] as const)[random.below(3)] ?? "auto",
    queryReplicated: random.below(4) === 0,
    pages: random.below(1e6),
  };
}

/** Some tokens of some sequences at a time, by decode and prefill. */
function drawnSteps(lengths: readonly number[], random: RandomStream): InvariantRun["steps"] {
  const left = [...lengths];
  const steps: { isPrefill: boolean; tokens: number[] }[] = [];
  while (left.some((count) => count > 0)) {
    const most = random.below(3) === 0 ? 4 : 60;
    const tokens = left.map((count) => (random.below(4) === 0 ? 0 : Math.min(count, 1 + random.below(most))));
    if (tokens.every((count) => count === 0)) continue;
    for (const [at, count] of tokens.entries()) left[at] = (left[at] ?? 0) - count;
    steps.push({ isPrefill: random.below(2) === 0, tokens });
  }
  return steps;
}

/** Opens a world for {@link bitsOf}. */
export function openInvariantWorld(
  { size, groups }: InvariantWorld,
  backend: TestBackend,
): Promise<World<MethodsOf<typeof program>>> {
  return openWorld<typeof program>({
    size,
    program: new URL("./world-invariance-program.ts", import.meta.url),
    options: { backend },
    groups,
    heapBytesPerRank: 24 << 20,
    heapBytesHost: 16 << 20,
    deadlineMs: 60_000,
  });
}

/** Outputs and LSEs as bytes, which are checked against float64. */
export async function bitsOf(
  world: World<MethodsOf<typeof program>>,
  { name, sequences, out, lse, expected }: InvariantCase,
  run: InvariantRun,
): Promise<Buffer> {
  out.fill(9);
  lse.fill(9);
  await world.call("run", [sequences, run]);
  if (expected !== undefined) {
    const tolerance = sequences.kvDtype === "f32" ? 1e-5 : 1e-4;
    expectNear(`${name}, out`, out, expected.expectedOut, tolerance);
    expectNear(`${name}, lse`, lse, expected.expectedLse, tolerance);
  }
  return Buffer.concat([out.bytes, lse.bytes]);
}

/** Holds worlds to the bits that a rank alone finds. */
export async function checkInvariance(
  backend: TestBackend,
  worlds: readonly InvariantWorld[],
  cases: number,
  seed: number,
): Promise<void> {
  const wanted: Buffer[] = [];
  for (const [place, layout] of [ALONE, ...worlds].entries()) {
    await using world = await openInvariantWorld(layout, backend);
    for (const [at, item] of invariantCases(world.heap, cases, seed).entries()) {
      const run = drawnRun(layout, item, 10_000 * seed + 1000 * place + at);
      const bits = await bitsOf(world, item, run);
      wanted[at] ??= bits;
      if (bits.equals(wanted[at])) continue;
      throw new Error(`${layout.name}: other bits of ${item.name} by ${JSON.stringify(run)}`);
    }
  }
}
