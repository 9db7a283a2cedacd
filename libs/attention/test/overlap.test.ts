// Steps whose halves overlap have the bits of whole ones, with two combines a layer; when `auto` cuts steps.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import fc from "fast-check";
import type * as program from "./overlap-program.ts";
import { type OverlapShape, PLAIN_OVERLAP as PLAIN } from "./overlap-program.ts";
import type { TestBackend } from "./test-backend.ts";

setDefaultTimeout(120_000);

const open = (size: number, backend: TestBackend) =>
  openWorld<typeof program>({
    size,
    program: new URL("./overlap-program.ts", import.meta.url),
    options: { backend },
    heapBytesPerRank: 40 << 20,
    deadlineMs: 100_000,
  });

const shapes: fc.Arbitrary<OverlapShape> = fc
  .record({
    heads: fc.constantFrom([4, 4] as const, [8, 2] as const, [8, 1] as const, [5, 5] as const),
    dims: fc.constantFrom([7, 5] as const, [16, 16] as const, [64, 32] as const),
    mla: fc.boolean(),
    kvDtype: fc.constantFrom("f32" as const, "f16" as const, "i8" as const),
    queryDtype: fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
    partialDtype: fc.constantFrom("f32" as const, "f32" as const, "f16" as const, "bf16" as const),
    blocks: fc.integer({ min: 1, max: 4 }),
    interleave: fc.constantFrom(1, 2, 4),
    combine: fc.constantFrom("a2a" as const, "ag-rs" as const, "one-shot" as const, "auto" as const),
    queryReplicated: fc.boolean(),
    window: fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined }),
    softcap: fc.option(fc.constant(3), { nil: undefined }),
    hasSinks: fc.boolean(),
    weights: fc.option(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 8, maxLength: 8 }), { nil: undefined }),
  })
  .map(({ blocks, window, softcap, weights, ...shape }) => ({
    ...shape,
    ...(shape.mla ? { heads: [shape.heads[0], 1] as const } : {}),
    // Other combines exchange f32.
    ...(shape.partialDtype === "f32" ? {} : { combine: "a2a" as const }),
    blockSize: shape.interleave * blocks,
    ...(window === undefined ? {} : { window }),
    ...(softcap === undefined ? {} : { softcap }),
    ...(weights === undefined ? {} : { weights }),
  }));

/** Steps of the same few sequences, each with some query tokens of some of them. */
const batches = fc.integer({ min: 1, max: 5 }).chain((count) =>
  fc.array(fc.array(fc.integer({ min: 0, max: 6 }), { minLength: count, maxLength: count }), {
    minLength: 1,
    maxLength: 3,
  }),
);

function inWorld({ weights, ...shape }: OverlapShape, size: number): OverlapShape {
  const own = weights?.slice(0, size) ?? [];
  return own.some((weight) => weight > 0) ? { ...shape, weights: own } : shape;
}

/** Layers' attentions that two query tokens or more make possible to cut. */
const possible = (steps: readonly (readonly number[])[]): number =>
  2 * steps.filter((counts) => counts.reduce((sum, count) => sum + count, 0) >= 2).length;

async function checkBits(size: number, backend: TestBackend, numRuns: number, onlyOn = shapes): Promise<void> {
  await using world = await open(size, backend);
  let cut = 0;
  await fc.assert(
    fc.asyncProperty(onlyOn, batches, fc.nat(1000), fc.boolean(), async (anyShape, steps, seed, merged) => {
      const shape = inWorld(anyShape, size);
      const place = merged ? "merged in the heap" : "heap";
      const whole = await world.call("run", [shape, steps, "off", seed, place]);
      const halves = await world.call("run", [shape, steps, "on", seed, place]);
      for (const [rank, { bits, partial, overlapped }] of halves.entries()) {
        const wanted = whole[rank];
        expect(overlapped).toBe(size === 1 ? 0 : possible(steps));
        expect(wanted?.overlapped).toBe(0);
        if (!bits.every((byte, at) => byte === wanted?.bits[at])) expect(bits).toEqual(wanted?.bits ?? []);
        expect(bits.length).toBe(wanted?.bits.length ?? -1);
        expect(partial).toEqual(wanted?.partial ?? []);
        cut += overlapped;
      }
    }),
    { numRuns, endOnFailure: true },
  );
  expect(cut > 0).toBe(size > 1);
}

describe("halves have the bits of the whole", () => {
  test.each([
    [1, 3],
    [2, 15],
    [3, 8],
    [4, 6],
    [8, 3],
  ])("wasm, %d ranks", (size, numRuns) => checkBits(size, "wasm", numRuns));
  test("reference, 2 ranks", () => checkBits(2, "reference", 3));
  const onGpu = shapes.map((shape): OverlapShape => {
    return { ...shape, dims: [16, 16], heads: [4, 1], mla: false, kvDtype: "f32", blockSize: 4, interleave: 2 };
  });
  test.each([
    [2, 2],
    [3, 1],
  ])("webgpu, batch-invariant, %d ranks", (size, numRuns) => {
    return checkBits(
      size,
      "webgpu invariant",
      numRuns,
      onGpu.map((shape) => ({ ...shape, combine: "a2a" })),
    );
  });
  test("one rank with a GPU, the other without", () => checkBits(2, "webgpu and wasm", 3, onGpu));
});

test.each([
  ["a2a", 1, 2],
  ["one-shot", 1, 2],
  ["ag-rs", 2, 4],
] as const)("%s: one gather and exactly two combines a layer", async (combine, whole, cut) => {
  await using world = await open(2, "wasm");
  for (const { collectives } of await world.call("run", [{ ...PLAIN, combine }, [[3, 2]], "off", 1])) {
    expect(collectives).toBe(1 + whole);
  }
  for (const { collectives } of await world.call("run", [{ ...PLAIN, combine }, [[3, 2]], "on", 1])) {
    expect(collectives).toBe(1 + cut);
  }
  for (const { collectives, overlapped } of await world.call("run", [{ ...PLAIN, combine }, [[1, 0]], "on", 1])) {
    expect([collectives, overlapped]).toEqual([1 + whole, 0]);
  }
});

test.each(["a2a", "one-shot", "ag-rs"] as const)(
  "%s: steps take no memory that they do not give back",
  async (combine) => {
    await using world = await open(2, "wasm");
    expect(await world.call("growth", [{ ...PLAIN, combine }, [1, 2, 1], 8])).toEqual([0, 0]);
  },
);

test("ranks that share a device attend together: nothing is cut", async () => {
  await using world = await open(2, "webgpu shared invariant");
  for (const { overlapped, bits } of await world.call("run", [PLAIN, [[3, 2]], "on", 1])) {
    expect([overlapped, bits.length > 0]).toEqual([0, true]);
  }
});

describe("auto", () => {
  const shape = { ...PLAIN, numBlocks: 200 };
  const decoding = Array.from({ length: 18 }, () => 1);
  // From then on sequences have 33 to 64 tokens, which is one class.
  const first = decoding.map(() => 33);
  const steps = [first, ...Array.from({ length: 30 }, () => decoding)];

  test("times both ways, and all ranks choose alike; the bits are those of either", async () => {
    await using world = await open(3, "wasm");
    const whole = await world.call("run", [shape, steps, "off", 5]);
    const auto = await world.call("run", [shape, steps, "auto", 5]);
    const [known] = auto;
    const classes = known?.overlapChoices.map(({ queries, context }) => [queries, context]);
    expect(classes).toEqual([
      [32, 64],
      [1024, 32],
    ]);
    for (const [rank, { bits, overlapped, overlapChoices }] of auto.entries()) {
      expect(overlapChoices).toEqual(known?.overlapChoices ?? []);
      const [choice, other] = overlapChoices;
      expect(Object.keys(choice?.microseconds ?? {}).sort()).toEqual(["off", "on"]);
      expect([other?.overlap, other?.microseconds]).toEqual([undefined, {}]);
      // A trial each way of the first step, 24 each way of the others, then all of one.
      expect(overlapped).toBe(1 + (choice?.overlap === "on" ? 36 : 24));
      expect(bits.every((byte, at) => byte === whole[rank]?.bits[at])).toBe(true);
    }
  });

  test("times steps of other contexts anew", async () => {
    await using world = await open(2, "wasm");
    const longer = [...steps.slice(0, 29), ...Array.from({ length: 3 }, () => decoding.map(() => 2))];
    for (const { overlapChoices } of await world.call("run", [shape, longer, "auto", 5])) {
      expect(overlapChoices.map(({ queries, context }) => [queries, context])).toEqual([
        [32, 64],
        [64, 64],
        [64, 128],
        [1024, 32],
      ]);
    }
  });

  test("leaves whole what would read a sequence twice, and what is uneven", async () => {
    await using world = await open(2, "wasm");
    for (const counts of [[20], [1, 90, 1]]) {
      for (const { overlapped, overlapChoices } of await world.call("run", [shape, [counts, counts], "auto", 5])) {
        expect([overlapped, overlapChoices]).toEqual([0, []]);
      }
      for (const { overlapped } of await world.call("run", [shape, [counts, counts], "on", 5])) {
        expect(overlapped).toBe(4);
      }
    }
  });

  test("leaves steps of few query tokens whole, and those whose bits a cut would change", async () => {
    await using world = await open(2, "wasm");
    const small = Array.from({ length: 30 }, () => [3, 3]);
    for (const { overlapped, overlapChoices } of await world.call("run", [shape, small, "auto", 5])) {
      expect([overlapped, overlapChoices]).toEqual([0, []]);
    }
    await using gpus = await open(2, "webgpu");
    for (const { overlapped, overlapChoices } of await gpus.call("run", [shape, [[9, 9]], "auto", 5])) {
      expect([overlapped, overlapChoices]).toEqual([0, []]);
    }
  });
});
