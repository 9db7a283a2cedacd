import { expect, test } from "bun:test";
import { controlBytes } from "@lockstep/dist-groups";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { readModelConfig } from "../model/config.ts";
import { modelFolder } from "../model/model-files.ts";
import type { StoredDTypes } from "../model/stored-dtypes.ts";
import { largestContext } from "./memory-advice.ts";
import { blocksPerRank } from "./kv-blocks.ts";
import { type CacheShape, hostHeapBytes, planRanks } from "./memory-plan.ts";

const config = readModelConfig(modelFolder("test", MODEL_FOLDER));
const stored: StoredDTypes = { usual: "bf16", others: new Map() };
const base = {
  sizes: { world: 4, dcp: 4, kvLayout: "replicated" },
  kvDtype: "f32",
  blockSize: 16,
  capacity: 1000,
  maxStepTokens: 256,
  maxLogitRows: 1,
  maxWholeRows: 0,
  texts: 1,
  calibrationTokens: 0,
  prefillChunk: 0,
  weights: "stored",
  isShared: false,
  isOnDevice: false,
} as const;
/** A machine with a TiB. */
const MACHINE = 2 ** 40;

test.each([
  [1, 1],
  [64, 1],
  [65, 2],
  [1000, 16],
])("%d tokens over 4 ranks in blocks of 16 need %d blocks each", (capacity, blocks) => {
  expect(blocksPerRank({ ...base, capacity })).toBe(blocks);
});

/** Bytes of rank 0, all of it. */
function bytes(changes: Partial<CacheShape>, model = config): number {
  const [rank] = planRanks(model, stored, { ...base, ...changes }, MACHINE).ranks;
  if (rank === undefined) throw new Error("no rank");
  return rank.weights + rank.kvCache + rank.scratch + rank.exchange;
}

/** Activations and scratch of rank 0. */
function scratch(changes: Partial<CacheShape>): number {
  return planRanks(config, stored, { ...base, ...changes }, MACHINE).ranks[0]?.scratch ?? 0;
}

const ALONE = { sizes: { world: 1, dcp: 1, kvLayout: "replicated" } } as const;

test("more ranks need less each, longer texts and wider KV more", () => {
  expect(bytes({})).toBeLessThan(bytes(ALONE));
  const longer = bytes({ ...ALONE, capacity: 992 + 8192 }) - bytes({ ...ALONE, capacity: 992 });
  // Keys and values of 2 heads of 64 in 8 layers, in f32, and entries of block tables.
  expect(longer).toBe(8192 * 2 * 8 * 2 * 64 * 4 + 2 * 16 * (8192 / 16));
  expect(bytes({ ...ALONE, capacity: 9192, kvDtype: "bf16" })).toBeLessThan(bytes({ ...ALONE, capacity: 9192 }));
});

test("texts have blocks of their own; a chunk of prefill and a sample to calibrate by take room", () => {
  expect(blocksPerRank({ ...base, capacity: 65, texts: 3 })).toBe(6);
  expect(bytes({ prefillChunk: 4096 })).toBeGreaterThan(bytes({}));
  // Rows of 2 heads of 64 in f32, keys and values, go through the rank that holds a shared GPU.
  const rows = bytes({ prefillChunk: 4096, isShared: true }) - bytes({ prefillChunk: 4096 });
  expect(rows).toBeGreaterThan(4096 * 2 * 2 * 64 * 4);
  // The workspace and what goes through it; plans of 32 tokens on each of a million tokens' chunks, of 64 a rank.
  const chunk = (prefillChunk: number): number => scratch({ prefillChunk, capacity: 1024 });
  expect(chunk(8192) - chunk(4096)).toBeGreaterThan(2.75 * 4096 * 2 * 2 * 64 * 4);
  const planned = (capacity: number): number => scratch({ prefillChunk: 32, capacity }) - scratch({ capacity });
  expect(planned(1 << 20) - planned(32)).toBeGreaterThan(((1 << 20) / (4 * 64)) * 32 * 3 * 4);
  // A rank alone has it all.
  const alone = (prefillChunk: number): number => scratch({ ...ALONE, prefillChunk, capacity: 1024 });
  expect(alone(8192)).toBe(alone(4096));
  // Scales per token do too.
  const long = { kvDtype: "i8", capacity: 65536 } as const;
  expect(bytes(long)).toBeGreaterThan(bytes({ ...long, calibrationTokens: 1 }));
  // The sample's caches lie where larger ones do not fit.
  const sampled = (calibrationTokens: number): number => bytes({ ...long, calibrationTokens });
  expect(sampled(8192) - sampled(64)).toBe((8192 - 64) * 2 * 2 * 64 * 4 * 2);
});

test("rows that may be drawn by chance take room to be put together", () => {
  const exchange = (maxWholeRows: number, rank: number): number =>
    planRanks(config, stored, { ...base, maxLogitRows: 64, maxWholeRows }, MACHINE).ranks[rank]?.exchange ?? 0;
  for (const rank of [0, 3]) {
    // Parts of 64 rows of 4096 tokens, a rank's 16 rows of 43 numbers in float64, and those of 4 ranks.
    expect(exchange(64, rank) - exchange(0, rank)).toBe(64 * 1024 * 4 + 5 * 16 * 43 * 8);
  }
  expect(scratch({ maxWholeRows: 1 }) - scratch({})).toBe(28 * 4096);
});

test("weights take what they are stored in, or 9 bits an element in int8", () => {
  const wide = { ...config, layers: 16, hiddenSize: 1024, intermediateSize: 4096 };
  const matrices = 1024 * (4096 + 16 * (3 * 4096 + 20 * 64));
  const weights = (changes: Partial<CacheShape>, dtypes: StoredDTypes = stored): number =>
    planRanks(wide, dtypes, { ...base, ...ALONE, ...changes }, MACHINE).ranks[0]?.weights ?? 0;
  expect(weights({}, { ...stored, usual: "f32" }) - weights({})).toBe(2 * matrices);
  expect(weights({}) - weights({ weights: "i8" })).toBe(0.875 * matrices);
});

test("N ranks hold N times the KV cache that one holds", () => {
  const most = (world: number): number =>
    largestContext(1 << 28, (capacity) =>
      planRanks(config, stored, { ...base, sizes: { ...base.sizes, world, dcp: world }, capacity }, 1e15),
    ) ?? 0;
  const alone = most(1);
  expect(alone * 2 * 8 * 2 * 64 * 4).toBeGreaterThan(0.95 * 2 ** 32);
  for (const world of [2, 4, 8]) expect(most(world) / alone).toBeCloseTo(world, 1);
});

test("the shared memory holds what fits in it; else ranks have memories, and their caches others where they must", () => {
  const layout = (changes: Partial<CacheShape>) => planRanks(config, stored, { ...base, ...changes }, 1e15).layout;
  const perToken = 2 * 8 * 2 * 64 * 4;
  expect(layout({})).toMatchObject({ ownBytes: 0, cacheBytes: 0 });
  const own = layout({ capacity: 800_000 });
  expect(own.ownBytes).toBeGreaterThan(200_000 * perToken);
  expect([own.cacheBytes, own.sharedBytes < 256 << 20]).toEqual([0, true]);
  // Weights and a cache that fill one memory each.
  const large = { ...config, layers: 16, hiddenSize: 2048, intermediateSize: 8192, vocabularySize: 128_256 };
  const two = planRanks(large, stored, { ...base, ...ALONE, capacity: 200_000 }, 1e15).layout;
  expect(two.cacheBytes).toBeGreaterThan(200_000 * 2 * perToken);
  expect(two.ownBytes).toBeGreaterThan(2 ** 31);
  expect(two.ownBytes + two.cacheBytes).toBeGreaterThan(2 ** 32);
});

test("the shared memory holds the ranks' ranges beside the host's and the groups', however many ranks there are", () => {
  for (const world of [2, 16, 64]) {
    const many = { ...config, queryHeads: 64 };
    const sizes = { ...base.sizes, world, dcp: world };
    let most = 0;
    for (let capacity = 1 << 17; capacity < 1 << 19; capacity += 64 * world) {
      const { layout, problem } = planRanks(many, stored, { ...base, sizes, capacity }, MACHINE);
      if (problem !== undefined) continue;
      most = Math.max(most, layout.sharedBytes * world + controlBytes(world) + hostHeapBytes(1));
    }
    expect(most).toBeLessThanOrEqual(65535 * 65536);
    // It is used as far as it goes.
    expect(most).toBeGreaterThan(0.8 * 2 ** 32);
  }
});

test("a process's memory holds its own ranks, and the machines together hold all", () => {
  const sizes = { ...base.sizes, world: 4, dcp: 4 };
  const plan = (capacity: number, processes: readonly (readonly number[])[], machine = MACHINE) =>
    planRanks(config, stored, { ...base, sizes, capacity }, machine, {
      processes,
      machines: processes.length,
      controlBytes: controlBytes(4),
    });
  const [one, two, four] = [
    [[0, 1, 2, 3]],
    [
      [0, 1],
      [2, 3],
    ],
    [[0], [1], [2], [3]],
  ];
  const capacity = 2 ** 19 + 2 ** 18;
  expect(plan(capacity, one).layout.ownBytes).toBeGreaterThan(0);
  for (const processes of [two, four]) {
    const { layout, problem } = plan(capacity, processes);
    expect(problem).toBeUndefined();
    expect(layout.ownBytes).toBe(0);
    const ofProcess = (layout.sharedBytes + plan(capacity, one).layout.sharedBytes) * (processes[0]?.length ?? 0);
    expect(ofProcess + controlBytes(4) + hostHeapBytes(1)).toBeLessThanOrEqual(65535 * 65536);
  }
  const { totalBytes } = plan(capacity, one);
  expect(plan(capacity, two, totalBytes / 2).problem).toBeUndefined();
  expect(plan(capacity, one, totalBytes / 2).problem).toMatch(/^4 ranks take .* but this machine has /);
  expect(plan(capacity, two, totalBytes / 4).problem).toMatch(/^4 ranks take .* but 2 machines like this one have /);
});

test("says what does not fit: a cache, weights, all of it", () => {
  const problem = (changes: Partial<CacheShape>, model = config, machine = MACHINE) =>
    planRanks(model, stored, { ...base, ...changes }, machine).problem;
  expect(problem({})).toBeUndefined();
  expect(problem({ capacity: 2 ** 21 })).toBe(
    "the KV cache takes 4.00 GiB of each of 4 ranks, with its scratch memory 4.02 GiB, but a memory holds 4.00 GiB",
  );
  expect(problem({ capacity: 2 ** 22 })).toBe(
    "the KV cache takes 8.00 GiB of each of 4 ranks, but a memory holds 4.00 GiB",
  );
  const large = { ...config, layers: 32, hiddenSize: 4096, intermediateSize: 11008, queryHeads: 32, headDim: 128 };
  expect(problem(ALONE, large, 1e15)).toMatch(/^the weights take [\d.]+ GiB of one rank, but a memory holds 4.00 GiB$/);
  expect(problem({ capacity: 16384 }, config, 1 << 27)).toMatch(
    /^4 ranks take [\d.]+ MiB, but this machine has 128.0 MiB$/,
  );
  // What is too much looks like more.
  const { totalBytes } = planRanks(config, stored, { ...base, capacity: 1 << 20 }, MACHINE);
  expect(problem({ capacity: 1 << 20 }, config, totalBytes)).toBeUndefined();
  for (const less of [1, 1 << 20, 1 << 24]) {
    const [, taken, there] =
      /^4 ranks take ([\d.]+ \w+), .* has ([\d.]+ \w+)$/.exec(
        problem({ capacity: 1 << 20 }, config, totalBytes - less) ?? "",
      ) ?? [];
    expect(taken).not.toBe(there);
    expect(Number.parseFloat(taken ?? "")).toBeGreaterThan(Number.parseFloat(there ?? ""));
  }
});
