// Sequences that begin with blocks found by content give the bits of those that are computed from scratch, whatever was
// evicted in between.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { type MethodsOf, openWorld, type World } from "@lockstep/dist-groups";
import { RandomStream } from "../../../tests/random.ts";
import type * as program from "./prefix-cache-program.ts";
import { blockTokens, type PrefixRequest, type PrefixShape } from "./prefix-cache-program.ts";
import type { TestBackend } from "./test-backend.ts";

setDefaultTimeout(120_000);

const plain: PrefixShape = {
  heads: [4, 2],
  dims: [7, 5],
  kvDtype: "f32",
  blockSize: 2,
  interleave: 1,
  numBlocks: 20,
  hasSinks: false,
  mla: false,
};

/** 8-bit caches have a scale a token. */
const shapes: readonly PrefixShape[] = [
  plain,
  { ...plain, kvDtype: "i8", interleave: 2, hasSinks: true },
  { ...plain, kvDtype: "f16", blockSize: 4, interleave: 2, window: 9 },
  { ...plain, heads: [4, 1], dims: [16, 8], kvDtype: "i8", mla: true },
  { ...plain, kvDtype: "f8e4m3", window: 13, hasSinks: true },
  { ...plain, kvDtype: "i8", interleave: 2, weights: [2, 1, 3, 1, 1, 2, 1, 3] },
];

/**
 * Requests of about `blocks` blocks: some prompts again and again, with other ends; now and then a new prompt, so that
 * old ones are evicted.
 */
function requestsOf(seed: number, size: number, blocks: number, count: number): PrefixRequest[] {
  const random = new RandomStream(seed);
  const text = (length: number): number[] => Array.from({ length }, () => random.below(90));
  const prompts = Array.from({ length: 3 }, () => text(Math.floor(size * blocks * (0.4 + random.next() / 2))));
  return Array.from({ length: count }, () => {
    if (random.below(4) === 0) prompts[random.below(3)] = text(Math.floor(size * blocks * (0.4 + random.next() / 2)));
    const prompt = prompts[random.below(3)] ?? [];
    const kept = random.below(3) === 0 ? random.below(prompt.length) : prompt.length;
    return {
      ids: [...prompt.slice(0, kept), ...text(1 + random.below(size * 2))],
      chunk: 1 + size + random.below(3 * size),
      isPrefill: random.below(3) === 0,
      draft: random.below(3) === 0 ? 1 + random.below(size + 1) : 0,
    };
  });
}

async function checkRequests(world: World<MethodsOf<typeof program>>, shape: PrefixShape, seed: number, count: number) {
  const size = blockTokens(shape, world.size);
  const requests = requestsOf(seed, size, 6, count);
  const live = seed % 2;
  const scratch = await world.call("serve", [shape, requests, false, live]);
  const shared = await world.call("serve", [shape, requests, true, live]);
  const [first] = shared;
  for (const [rank, { results, total, free, known }] of shared.entries()) {
    expect(free).toBe(total);
    expect(known).toBe(first?.known ?? -1);
    for (const [index, { cached, bits }] of results.entries()) {
      expect(cached).toBe(first?.results[index]?.cached ?? -1);
      expect(bits.length).toBe((requests[index]?.ids.length ?? 0) - cached);
      expect(bits).toEqual(scratch[rank]?.results[index]?.bits.slice(cached) ?? []);
    }
  }
  const { results = [], known = 0 } = first ?? {};
  const computed = results.reduce((sum, { bits }) => sum + bits.length, 0);
  const found = results.reduce((sum, { cached }) => sum + cached, 0);
  // A good part was found, and more was computed than the cache holds: blocks were evicted.
  expect(found).toBeGreaterThan(5 * size);
  expect(computed).toBeGreaterThan(shape.numBlocks * size);
  expect(known).toBeGreaterThan(0);
}

async function checkCutBack(world: World<MethodsOf<typeof program>>, shape: PrefixShape): Promise<void> {
  const size = blockTokens(shape, world.size);
  const ids = Array.from({ length: 2 * size + 1 }, (_, at) => (at * 7) % 50);
  for (const found of await world.call("cutBack", [shape, ids])) {
    expect(found.map(({ cached }) => cached)).toEqual(
      [0, 2 * size, 2 * size, 2 * size, 0, 0, 0].map(blocksFound(size)),
    );
    for (const { bits } of found) expect(bits).toEqual(found[0]?.bits ?? []);
  }
}

async function checkMoved(world: World<MethodsOf<typeof program>>, shape: PrefixShape): Promise<void> {
  const size = blockTokens(shape, world.size);
  const ids = Array.from({ length: 3 * size + 1 }, (_, at) => (at * 11) % 70);
  for (const moved of await world.call("moved", [shape, ids])) {
    expect(moved.cached).toBe(3 * size);
    expect(moved.bits).toEqual(moved.computed);
    expect(moved.saved).toBe(3);
    expect(moved.known).toEqual([0, 0, shape.numBlocks, 3, 3]);
    const order = "StepOrderError";
    expect(moved.refused).toEqual([
      "Error: unreadable",
      order,
      order,
      order,
      ...new Array<string>(4).fill("ArgumentError"),
    ]);
    expect(moved.isSameLayout).toBe(true);
  }
}

/** With blocks of one token a cut never ends inside a block. */
function blocksFound(size: number): (cached: number, index: number) => number {
  return (cached, index) => (size === 1 && index === 4 ? 2 : cached);
}

/** Every shape in small worlds; in large ones, whose collectives take long where cores are few, three of them. */
function shapesOf(size: number): readonly (PrefixShape | undefined)[] {
  return size <= 2 ? shapes : [shapes[(2 * size) % 5], shapes[(2 * size + 1) % 5], shapes[5]];
}

async function checkWorld(size: number, backend: TestBackend, given = shapesOf(size)): Promise<void> {
  await using world = await openWorld<typeof program>({
    size,
    program: new URL("./prefix-cache-program.ts", import.meta.url),
    options: { backend },
    heapBytesPerRank: 24 << 20,
  });
  const drawn = given.filter((shape) => shape !== undefined);
  for (const [index, shape] of drawn.entries()) await checkRequests(world, shape, 10 * size + index, 14);
  for (const shape of drawn) await checkCutBack(world, shape);
  for (const shape of drawn) await checkMoved(world, shape);
  for (const tags of await world.call("refusals", [plain])) {
    const order = "StepOrderError";
    const argument = "ArgumentError";
    expect(tags).toEqual([order, order, order, order, "ResourceClosed", argument, argument, order, order]);
  }
  for (const out of await world.call("outOfBlocks", [plain])) expect(out).toEqual({ needed: 21, free: 20, after: 1 });
  if (size > 1) for (const tag of await world.call("disagree", [plain])) expect(tag).toBe("OptionsDisagree");
}

describe("known prefixes give the bits of computing them", () => {
  test.each([1, 2, 3, 4, 8])("wasm, %d ranks", (size) => checkWorld(size, "wasm"));
  test.each([1, 2, 3, 4, 8])("reference, %d ranks", (size) => checkWorld(size, "reference"));
  test.each(["webgpu invariant", "webgpu shared invariant"] as const)("%s on software Vulkan, 2 ranks", (backend) =>
    checkWorld(2, backend, [shapes[1], shapes[2], shapes[5]]),
  );
});
