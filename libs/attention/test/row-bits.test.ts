// A token's attention has the same bits whatever else is in its step, however its text was cut into steps, in a decode
// or a prefill of any chunk size, in a fork, beside drafted tokens that are forgotten, and by any combine.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import fc from "fast-check";
import { RandomStream } from "../../../tests/random.ts";
import type * as program from "./row-bits-program.ts";
import type { RowBitsItem, RowBitsRun, RowBitsShape, RowBitsStep } from "./row-bits-program.ts";
import type { TestBackend } from "./test-backend.ts";

setDefaultTimeout(120_000);

const shapes: fc.Arbitrary<RowBitsShape> = fc
  .record({
    heads: fc.constantFrom([4, 4] as const, [4, 2] as const, [8, 1] as const, [5, 5] as const, [12, 4] as const),
    dims: fc.constantFrom([7, 5] as const, [16, 16] as const, [64, 32] as const, [256, 128] as const),
    kvDtype: fc.constantFrom("f32" as const, "f16" as const, "bf16" as const, "f8e4m3" as const, "i8" as const),
    interleave: fc.constantFrom(1, 2, 3, 4),
    blocks: fc.integer({ min: 1, max: 4 }),
    window: fc.option(fc.integer({ min: 1, max: 90 }), { nil: undefined }),
    softcap: fc.option(fc.constant(3), { nil: undefined }),
    hasSinks: fc.boolean(),
    deterministic: fc.constantFrom("rank-order" as const, "rank-order" as const, "world-invariant" as const),
    weights: fc.option(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 4, maxLength: 4 }), { nil: undefined }),
  })
  .map(({ blocks, window, softcap, weights, ...shape }) => ({
    ...shape,
    blockSize: shape.interleave * blocks,
    ...(window === undefined ? {} : { window }),
    ...(softcap === undefined ? {} : { softcap }),
    ...(weights === undefined ? {} : { weights }),
  }));

/** A shape for a world of a size: with as many weights as ranks, unless all would be 0. */
function inWorld({ weights, ...shape }: RowBitsShape, size: number): RowBitsShape {
  const own = weights?.slice(0, size) ?? [];
  return own.some((weight) => weight > 0) ? { ...shape, weights: own } : shape;
}

/** Of few kernels, which a GPU compiles for every dim, dtype and block size; all ranks cross splits together. */
const gpuShapes: fc.Arbitrary<RowBitsShape> = fc
  .record({ shape: shapes, kvHeads: fc.constantFrom(1, 2, 4), interleave: fc.constantFrom(1, 2, 4) })
  .map(({ shape: { weights: _, deterministic: __, ...shape }, kvHeads, interleave }) => {
    return { ...shape, heads: [4, kvHeads], interleave, dims: [16, 12], blockSize: 12 };
  });

const runs: fc.Arbitrary<RowBitsRun> = fc.record({
  prefillChunk: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 41, max: 1000 })),
  combine: fc.constantFrom("auto", "a2a", "ag-rs", "one-shot"),
  hasPcp: fc.boolean(),
});

/** Texts and the steps that append them: decodes and prefills of several texts, forks, drafts. */
function schedule(
  seed: number,
  length: number,
  { texts: count, mostTokens, prefix }: Sizes,
): { readonly texts: number[][]; readonly steps: RowBitsStep[] } {
  const random = new RandomStream(seed);
  const texts = Array.from({ length: count }, () => Array.from({ length }, () => random.below(90)));
  const stored = texts.map((_, text) => (text === 0 ? prefix : 0));
  const steps: RowBitsStep[] = prefix === 0 ? [] : [silent(0, prefix)];
  while (stored.some((count) => count < length) && steps.length < 40) {
    const isPrefill = random.below(2) === 0;
    const from = random.below(count);
    const to = stored.indexOf(0);
    const forked = stored[from] ?? 0;
    const fork = to >= 0 && forked > 0 && (prefix > 0 || random.below(2) === 0) ? { from, to } : undefined;
    if (fork !== undefined) {
      texts[to]?.splice(0, forked, ...(texts[from]?.slice(0, forked) ?? []));
      stored[to] = forked;
    }
    const items: RowBitsItem[] = [];
    for (const [text, had] of stored.entries()) {
      const left = length - had;
      if (left === 0 || (prefix > 0 && had === 0) || random.below(3) === 0) continue;
      const most = random.below(2) === 0 ? 3 : mostTokens;
      const taken = Math.min(left, 1 + random.below(most));
      items.push({ text, count: taken, ...(random.below(4) === 0 ? { junk: 1 + random.below(4) } : {}) });
      stored[text] = had + taken;
    }
    if (items.length > 0 || fork !== undefined) steps.push({ ...(fork && { fork }), isPrefill, items });
  }
  // Short texts may have few steps: one at least is a prefill.
  const first = steps.findIndex(({ isSilent, items }) => isSilent !== true && items.length > 0);
  const step = steps[first];
  if (step !== undefined && !steps.some(({ isPrefill }) => isPrefill)) steps[first] = { ...step, isPrefill: true };
  return { texts, steps };
}

/** Stores the beginning of a text. */
function silent(text: number, prefix: number): RowBitsStep {
  return { isPrefill: false, isSilent: true, items: [{ text, count: prefix }] };
}

/** A text alone, by decodes of so many tokens each. */
function plain(text: number, length: number, { prefix, aloneCounts: counts }: Sizes): RowBitsStep[] {
  const steps: RowBitsStep[] = prefix === 0 ? [] : [silent(text, prefix)];
  for (let stored = prefix; stored < length; ) {
    const count = Math.min(length - stored, counts[steps.length % counts.length] ?? 1);
    steps.push({ isPrefill: false, items: [{ text, count }] });
    stored += count;
  }
  return steps;
}

/** How much of what. */
interface Sizes {
  readonly shapes: fc.Arbitrary<RowBitsShape>;
  readonly texts: number;
  /** Tokens of the first text that are stored before; with some, the others are forks of it. */
  readonly prefix: number;
  /** Of a text in a step. */
  readonly mostTokens: number;
  /** Of the steps of a text alone. */
  readonly aloneCounts: readonly number[];
}
const ON_CPU: Sizes = { shapes, texts: 3, prefix: 0, mostTokens: 60, aloneCounts: [1] };
/** Texts that cross from one split of each rank's keys, and one chunk, into the next. */
const onGpu = (size: number): Sizes => {
  return { shapes: gpuShapes, texts: 2, prefix: 256 * size - 12, mostTokens: 24, aloneCounts: [1, 2, 17, 1] };
};

async function checkRows(
  size: number,
  backend: TestBackend,
  numRuns: number,
  length: number,
  sizes: Sizes = ON_CPU,
): Promise<void> {
  await using world = await openWorld<typeof program>({
    size,
    program: new URL("./row-bits-program.ts", import.meta.url),
    options: { backend },
    heapBytesPerRank: 48 << 20,
    deadlineMs: 100_000,
  });
  let prefilled = 0;
  await fc.assert(
    fc.asyncProperty(sizes.shapes, runs, fc.nat(), async (anyShape, drawn, seed) => {
      const shape = inWorld(anyShape, size);
      const { texts, steps } = schedule(seed, length, sizes);
      // The reference merges in float64; ag-rs sums in f32, as the collectives do.
      const run = drawn.combine === "ag-rs" && backend === "reference" ? { ...drawn, combine: "auto" as const } : drawn;
      const asPlain = { ...run, combine: "a2a" as const, hasPcp: false };
      const text = seed % sizes.texts;
      const alone = await world.call("run", [shape, texts, plain(text, length, sizes), asPlain]);
      const mixed = await world.call("run", [shape, texts, steps, run]);
      for (const [rank, found] of mixed.entries()) {
        const wanted = new Map(alone[rank]?.map(([, position, bits]) => [position, bits]));
        for (const [of, position, bits] of found) {
          if (of !== text) continue;
          const other = wanted.get(position);
          if (other?.every((word, at) => word === bits[at]) === true) continue;
          expect([position, ...bits]).toEqual([position, ...(other ?? [])]);
        }
      }
      prefilled += steps.filter(({ isPrefill }) => isPrefill).length;
    }),
    { numRuns, endOnFailure: true },
  );
  expect(prefilled).toBeGreaterThan(0);
}

describe("rows keep their bits", () => {
  test.each([
    [1, 4],
    [2, 2],
    [3, 2],
    [4, 1],
  ])("wasm, %d ranks", (size, numRuns) => checkRows(size, "wasm", numRuns, 130));
  test("wasm, caches in memories of the ranks' own, 2 ranks", () => checkRows(2, "wasm own", 1, 130));
  test("reference, 2 ranks", () => checkRows(2, "reference", 2, 20));
  test.each([
    [1, "webgpu invariant"],
    [2, "webgpu invariant"],
    [4, "webgpu shared invariant"],
  ] as const)("%d ranks, %s", (size, backend) => checkRows(size, backend, 1, 256 * size + 24, onGpu(size)));
});
