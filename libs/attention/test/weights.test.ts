// Ranks that store unequal shares of every context: results, what each rank holds, and what is refused.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Combine } from "@lockstep/attention";
import { type MethodsOf, openWorld, parallelGroups, type ParallelSizes, type World } from "@lockstep/dist-groups";
import { localLength } from "@lockstep/kernels";
import { RandomStream } from "../../../tests/random.ts";
import type * as decodeProgram from "./attention-program.ts";
import { DECODE_CASES } from "./decode-cases.ts";
import { expectNear, type FeatureCase, prepareCase } from "./feature-cases.ts";
import { PREFILL_CASES } from "./prefill-cases.ts";
import type * as prefillProgram from "./prefill-program.ts";
import type { TestBackend } from "./test-backend.ts";
import type * as weightsProgram from "./weights-program.ts";
import { ALONE, bitsOf, drawnRun, invariantCases, openInvariantWorld, WORLDS } from "./world-invariance-cases.ts";

setDefaultTimeout(180_000);

/** How a context is dealt to ranks. */
interface Deal {
  readonly weights: readonly number[];
  readonly interleave: number;
  readonly blockSize: number;
}

/** Any deal to so many ranks; some may store nothing. */
function randomDeal(ranks: number, random: RandomStream): Deal {
  const weights: number[] = Array.from({ length: ranks }, () => random.below(5));
  if (!weights.some((weight) => weight > 0)) weights[random.below(ranks)] = 1 + random.below(4);
  const interleave = 1 + random.below(4);
  return { weights, interleave, blockSize: interleave * (1 + random.below(3)) };
}

/** Tokens that each rank stores of sequences that got these tokens, step by step. */
function expectHeld(held: readonly { tokensHeld: number }[], { steps }: FeatureCase, deal: Deal): void {
  const { weights, interleave } = deal;
  const lengths = (steps[0] ?? []).map((_, at) => steps.reduce((sum, step) => sum + (step[at] ?? 0), 0));
  const expected = weights.map((_, index) => {
    const shard = { index, count: weights.length, interleave, weights };
    return lengths.reduce((sum, length) => sum + localLength(shard, length), 0);
  });
  expect(held.map(({ tokensHeld }) => tokensHeld)).toEqual(expected);
}

const toleranceOf = ({ kvDtype = "f32" }: FeatureCase): number => (kvDtype === "f32" ? 1e-5 : 1e-4);

async function checkDecode(size: number, backend: TestBackend, chosen = /./): Promise<void> {
  await using world = await openWorld<typeof decodeProgram>({
    size,
    program: new URL("./attention-program.ts", import.meta.url),
    options: { backend },
    deadlineMs: 60_000,
  });
  const random = new RandomStream(size);
  for (const [index, item] of DECODE_CASES.entries()) {
    if (!chosen.test(item.name)) continue;
    const deal = randomDeal(size, random);
    const prepared = prepareCase(item, world.heap, 500 + index);
    const { replay, out, lse } = prepared;
    let first: Buffer | undefined;
    for (const combine of ["a2a", "ag-rs", "one-shot"] satisfies Combine[]) {
      out.fill(Number.NaN);
      lse.fill(Number.NaN);
      const { blockSize, ...dealt } = deal;
      const options = { ...replay.options, ...dealt, combine };
      const held = await world.call("replay", [{ ...replay, blockSize, options }]);
      expectHeld(held, item, deal);
      const what = `${item.name}, weights ${deal.weights}, I${deal.interleave}, blocks of ${blockSize}, ${combine}`;
      expectNear(`${what}, out`, out, prepared.expectedOut, toleranceOf(item));
      expectNear(`${what}, lse`, lse, prepared.expectedLse, toleranceOf(item));
      if (backend === "reference") continue;
      const bits = Buffer.concat([out.bytes, lse.bytes]);
      first ??= bits;
      expect(Buffer.compare(bits, first)).toBe(0);
    }
    prepared.free();
  }
}

async function checkPrefill(sizes: ParallelSizes, backend: TestBackend, cases = PREFILL_CASES): Promise<void> {
  const { worldSize, kv, query, pcp, kvShards } = parallelGroups(sizes);
  await using world = await openWorld<typeof prefillProgram>({
    size: worldSize,
    program: new URL("./prefill-program.ts", import.meta.url),
    options: { backend },
    groups: { kv, query, pcp },
    deadlineMs: 60_000,
  });
  const random = new RandomStream(worldSize + 10 * kvShards);
  for (const [index, item] of cases.entries()) {
    const prepared = prepareCase(item, world.heap, 700 + index);
    const { replay, out, lse } = prepared;
    const { blockSize, ...deal } = randomDeal(kvShards, random);
    let first: Buffer | undefined;
    for (const prefillChunk of [1, 40, 1000]) {
      out.fill(Number.NaN);
      lse.fill(Number.NaN);
      const run = { ...replay, blockSize, options: { ...replay.options, ...deal } };
      const held = await world.call("run", [{ ...run, prefills: 2, prefillChunk, sizes, kv: "replicated" }]);
      for (const group of kv) {
        expectHeld(
          group.map((rank) => ({ tokensHeld: held[rank]?.tokensHeld ?? -1 })),
          item,
          { ...deal, blockSize },
        );
      }
      const what = `${item.name}, weights ${deal.weights}, I${deal.interleave}, chunks of ${prefillChunk}`;
      expectNear(`${what}, out`, out, prepared.expectedOut, toleranceOf(item));
      expectNear(`${what}, lse`, lse, prepared.expectedLse, toleranceOf(item));
      if (backend !== "wasm") continue;
      const bits = Buffer.concat([out.bytes, lse.bytes]);
      first ??= bits;
      expect(Buffer.compare(bits, first)).toBe(0);
    }
    prepared.free();
  }
}

const classic = (tp: number, dcp: number, pcp = 1): ParallelSizes => ({ layout: "classic", tp, pcp, dcp });
const orthogonal = (tp: number, pcp: number, dcp: number): ParallelSizes => ({ layout: "orthogonal", tp, pcp, dcp });
const nameOf = ({ layout, tp, pcp, dcp }: ParallelSizes): string => `${layout} TP${tp} PCP${pcp ?? 1} DCP${dcp}`;

/** On software Vulkan compiling takes seconds for each head size. */
const ON_GPU = /sinks with window|MLA of odd sizes|a scale a token, sinks/;

describe("decoding over shards of any size, every case and combine", () => {
  test.each([1, 2, 3, 4, 8])("wasm, %d ranks", (size) => checkDecode(size, "wasm"));
  test("wasm, caches and operands in memories of the ranks' own, 3 ranks", () => checkDecode(3, "wasm own"));
  test("reference, 3 ranks", () => checkDecode(3, "reference"));
  test.each(["webgpu", "webgpu shared"] as const)("%s on software Vulkan, 3 ranks", (backend) =>
    checkDecode(3, backend, ON_GPU),
  );
});

describe("prefill over shards of any size, then decoding, any chunk size", () => {
  const sizes = [
    classic(1, 1),
    classic(2, 2),
    classic(3, 3),
    classic(4, 4),
    classic(8, 8),
    classic(2, 2, 2),
    orthogonal(2, 2, 4),
    orthogonal(1, 3, 3),
  ];
  test.each(sizes.map((each) => [nameOf(each), each] as const))("wasm, %s", (_, each) => checkPrefill(each, "wasm"));
  test("reference, classic TP2 DCP2", () => checkPrefill(classic(2, 2), "reference"));
  const gpus = ["webgpu", "webgpu shared invariant", "webgpu and wasm"] as const;
  test.each(gpus)("%s on software Vulkan, classic TP2 DCP2", (backend) =>
    checkPrefill(classic(2, 2), backend, PREFILL_CASES.slice(3, 4)),
  );
});

/** Bits of cases on one rank, and on ranks that store these shares. */
async function checkInvariant(backend: TestBackend, layouts: RegExp, sharesOf: readonly (readonly number[])[]) {
  const wanted: Buffer[] = [];
  {
    await using world = await openInvariantWorld(ALONE, backend);
    for (const item of invariantCases(world.heap, 2, 9))
      wanted.push(await bitsOf(world, item, drawnRun(ALONE, item, 1)));
  }
  let compared = 0;
  for (const layout of WORLDS.filter(({ name }) => layouts.test(name))) {
    await using world = await openInvariantWorld(layout, backend);
    const ranks = layout.groups.kv[0]?.length ?? 0;
    for (const [at, item] of invariantCases(world.heap, 2, 9).entries()) {
      const run = { ...drawnRun(layout, item, 10 * ranks + at), weights: (sharesOf[at] ?? []).slice(0, ranks) };
      const found = await bitsOf(world, item, run);
      const what = `${layout.name}, ${item.name} by ${JSON.stringify(run)}`;
      expect([what, found.equals(wanted[at] ?? found.subarray(1))]).toEqual([what, true]);
      compared++;
    }
  }
  expect(compared).toBeGreaterThan(1);
}

test.each(["reference", "wasm"] as const)(
  "world-invariant attention has the bits of one rank over any shards, %s",
  (backend) =>
    checkInvariant(backend, /[24] ranks: (classic TP2|queries)/, [
      [3, 1, 0, 2],
      [0, 2, 1, 1],
    ]),
);

describe("weights of a world", () => {
  const open = (size: number): Promise<World<MethodsOf<typeof weightsProgram>>> =>
    openWorld<typeof weightsProgram>({ size, program: new URL("./weights-program.ts", import.meta.url) });

  test("of 1 each are no weights: the same bits, the same layout", async () => {
    await using world = await open(3);
    for (const { layouts, bits } of await world.call("equal", [[1, 1, 1]])) {
      expect(layouts[0]).toEqual(layouts[1] ?? {});
      expect(layouts[0]).not.toHaveProperty("weights");
      expect(bits[0]).toEqual(bits[1] ?? []);
    }
  });

  test("of 2 each are runs and blocks twice as long: the same bits", async () => {
    await using world = await open(3);
    for (const { layouts, bits } of await world.call("equal", [[2, 2, 2]])) {
      expect(layouts[0]).toHaveProperty("weights", "2 2 2");
      expect(bits[0]).toEqual(bits[1] ?? []);
    }
  });

  test("give each rank its share of every block, to the last token that fits", async () => {
    await using world = await open(3);
    const weights = [3, 0, 1];
    const numBlocks = 5;
    const blockSize = 4;
    const told = await world.call("fill", [weights, numBlocks, blockSize]);
    const blockBytes = 2 * 4 * blockSize * 4;
    for (const [rank, { tokens, needed, held, bytes, shape }] of told.entries()) {
      const weight = weights[rank] ?? 0;
      expect(tokens).toBe(numBlocks * blockSize * 4);
      expect(needed).toEqual({ needed: 1, free: 0 });
      expect(held).toBe(numBlocks * blockSize * weight);
      expect(bytes).toBe(numBlocks * blockBytes * weight);
      expect(shape).toEqual(weight === 0 ? [0, blockSize, 1, 4] : [numBlocks, blockSize * weight, 1, 4]);
    }
  });

  test("go with prefixes that move from one attention to another, also where a rank stores nothing", async () => {
    await using world = await open(3);
    for (const { cached, blocks, bits, parts } of await world.call("moved", [[2, 0, 1]])) {
      expect({ cached, blocks }).toEqual({ cached: 24, blocks: 2 });
      expect(bits[0]).toEqual(bits[1] ?? []);
      expect([0, 2]).toContain(parts);
    }
  });

  test("that ranks do not agree on are refused on every rank", async () => {
    await using world = await open(2);
    for (const said of await world.call("refused", [
      [
        [3, 1],
        [1, 3],
      ],
    ])) {
      expect(said).toMatch(/^OptionsDisagree: .*weights/s);
    }
    for (const said of await world.call("refused", [
      [
        [1, 1],
        [2, 1],
      ],
    ]))
      expect(said).toMatch(/^OptionsDisagree/);
  });

  test.each([
    ["too few", [1], /`weights` must be a list of 2 integers/],
    ["negative", [1, -1], /`weights\[1\]` must be an integer from 0/],
    ["fractions", [0.5, 1], /`weights\[0\]` must be an integer from 0/],
    ["all 0", [0, 0], /`weights` must be integers whose sum is from 1/],
    ["beyond what blocks can have", [2 ** 15, 1], /`weights` must be at most 16384 each with a block size of 64/],
  ] as const)("that are %s are refused before anything is allocated", async (_, weights, message) => {
    await using world = await open(2);
    for (const said of await world.call("refused", [[weights, weights], 64])) expect(said).toMatch(message);
  });
});
