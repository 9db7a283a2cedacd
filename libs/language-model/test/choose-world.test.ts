// Worlds whose number of ranks is chosen here: what is chosen fits, is one of those that were timed, and is right.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { chooseWorld } from "../src/generation/choose-world.ts";
import { Generator } from "../src/generation/generator.ts";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import { planMemory } from "../src/generation/plan-memory.ts";
import { spreadOptions } from "../src/generation/world-candidates.ts";
import { WorldTrial } from "../src/generation/world-trial.ts";
import { continuation, model, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const { promptIds, greedyIds } = shortPrompts[0] ?? expect.unreachable();
const least = { world: "auto", backend: "wasm", capacity: 64 } as const;

test("a generator says what it chose, and generates the same tokens", async () => {
  await using generator = await Generator.open(model, least);
  const { choice } = generator;
  if (choice === undefined) expect.unreachable();
  expect(generator.sizes).toEqual(choice.sizes);
  expect(choice.context).toBe(64);
  if (choice.candidates.length > 0) expect(choice.candidates.map(({ sizes }) => sizes)).toContainEqual(choice.sizes);
  expect(planMemory(model, spreadOptions(least, choice.sizes)).problem).toBeUndefined();
  expect(choice.reason).toContain("rank");
  expect(await continuation(generator, promptIds, 20)).toEqual(greedyIds.slice(0, 20));
});

test("a generator whose ranks were counted chose nothing", async () => {
  await using generator = await Generator.open(model, { ...least, world: 1 });
  expect(generator.choice).toBeUndefined();
});

test("ranks in workers of the caller's own are timed there", async () => {
  const started: number[] = [];
  const worker = (rank: number): Worker => {
    started.push(rank);
    return new Worker(new URL("./own-rank.ts", import.meta.url), { type: "module" });
  };
  const choice = await chooseWorld(model, { backend: "wasm", capacity: 64, worker });
  expect(started.length).toBe(choice.candidates.length === 0 ? 0 : Math.max(...started) + 1);
  await using generator = await Generator.open(model, { ...spreadOptions(least, choice.sizes), worker });
  expect(await continuation(generator, promptIds, 8)).toEqual(greedyIds.slice(0, 8));
});

const ONE = { world: 1, dcp: 1, kvLayout: "replicated" } as const;
const TWO = { world: 2, dcp: 1, kvLayout: "sharded" } as const;
const THREE = { world: 3, dcp: 3, kvLayout: "replicated" } as const;
const FOUR = { world: 4, dcp: 2, kvLayout: "sharded" } as const;
const WHOLE = { world: 4, dcp: 1, kvLayout: "sharded" } as const;

describe("every layout can be timed, on any number of cores", () => {
  test.each<[string, Omit<GeneratorOptions, "world">]>([
    ["as it is", {}],
    ["int8 weights, KV in int8", { weights: "i8", kvDtype: "i8" }],
    ["KV in fp8, static scales", { kvDtype: "f8e4m3", kvScales: "static", calibration: [1, 2, 3] }],
    ["20 texts, drafts, prefill by chunks", { texts: 20, maxDraft: 3, prefillChunk: 16, capacity: 600 }],
    ["another combine, blocks, interleave", { combine: "a2a", blockSize: 8, interleave: 2 }],
    ["steps of few tokens", { maxStepTokens: 2, capacity: 512 }],
    ["a text of one token", { capacity: 1 }],
    ["a context beyond what is timed", { capacity: 16_384, texts: 2 }],
    ["on the reference backend", { backend: "reference" }],
  ])("%s", async (_, options) => {
    const wanted: GeneratorOptions = { ...least, ...options };
    const candidates = [ONE, TWO, THREE, FOUR, WHOLE].map((sizes) => spreadOptions(wanted, sizes));
    await using trial = await WorldTrial.open(model, candidates, wanted.capacity ?? 1);
    const times = await trial.measure();
    expect(times.length).toBe(candidates.length);
    for (const { stepMs, promptTokenMs } of times) {
      expect(Number.isFinite(stepMs) && stepMs > 0).toBe(true);
      if (promptTokenMs === undefined) expect(wanted.capacity).toBeLessThan(512);
      else expect(Number.isFinite(promptTokenMs) && promptTokenMs > 0).toBe(true);
    }
  });
});
