// Ranks with unequal memories: the same texts, each rank's share of the cache, and the plan that promised it.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Engine } from "../src/engine/engine.ts";
import { UnfitOptions } from "../src/errors.ts";
import { Generator } from "../src/generation/generator.ts";
import { planMemory } from "../src/generation/plan-memory.ts";
import { planTrial, trialShape } from "../src/generation/trial-shape.ts";
import { spreadOptions, worldCandidates } from "../src/generation/world-candidates.ts";
import { outcomeOf } from "../../../tests/outcome-of.ts";
import { continuation, greedy, model } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const { promptIds, greedyIds } = greedy[1] ?? expect.unreachable();
const { layers, kvHeads, headDim } = model.config;
/** Bytes of a token's keys and values in f32, of all KV heads. */
const TOKEN_BYTES = 2 * layers * kvHeads * headDim * 4;

describe("texts are the same over shares of any size", () => {
  test.each([
    [{ world: 2, kvWeights: [3, 1] }],
    [{ world: 2, kvWeights: [0, 1], kvDtype: "f16" }],
    [{ world: 3, kvWeights: [1, 5, 2], interleave: 4, blockSize: 8, maxDraft: 3 }],
    [{ world: 4, kvWeights: [2, 3], blockSize: 4 }],
    [{ world: 4, kvWeights: [1, 0, 0, 2], kvDtype: "i8", kvScales: "static", calibration: promptIds }],
  ] as const)("%o", async (options) => {
    const capacity = promptIds.length + 30;
    await using generator = await Generator.open(model, { ...options, backend: "wasm", capacity });
    expect(await continuation(generator, promptIds, 20)).toEqual(greedyIds.slice(0, 20));
    const { dcp } = generator.sizes;
    expect(dcp).toBe(options.kvWeights.length);
    const [sum, stored] = [options.kvWeights.reduce((total: number, weight) => total + weight, 0), promptIds.length];
    const ranks = await generator.metrics();
    const { interleave = 1 } = options as { interleave?: number };
    for (const [rank, { attention }] of ranks.entries()) {
      const share = options.kvWeights[rank % dcp] ?? 0;
      if (share === 0) expect(attention.tokensHeld).toBe(0);
      const [least, most] = [stored, stored + 20].map((tokens) => (tokens * share) / sum);
      expect(attention.tokensHeld).toBeGreaterThanOrEqual((least ?? 0) - share * interleave);
      expect(attention.tokensHeld).toBeLessThanOrEqual((most ?? 0) + share * interleave);
    }
  });
});

describe("a big and a small memory", () => {
  // Room for 400 tokens on one rank, and for 100 on the other.
  const kvBytes = [400 * TOKEN_BYTES, 100 * TOKEN_BYTES];
  const options = { world: 2, backend: "wasm", blockSize: 4, kvBytes } as const;

  test("are planned to hold what both together have room for, and hold it to the last token", async () => {
    const plan = planMemory(model, options);
    expect(plan.problem).toBeUndefined();
    expect(plan.context).toBe(500);
    expect(plan.ranks.map(({ kvCache }) => kvCache)).toEqual(kvBytes);
    await using generator = await Generator.open(model, options);
    expect(generator.blocksPerRank).toBe(25);
    const prompt = Array.from({ length: 490 }, (_, at) => promptIds[at % promptIds.length] ?? 0);
    const tokens = await continuation(generator, prompt, 10);
    // The last token is not fed back; it would fit.
    expect((await generator.metrics()).map(({ attention }) => attention.tokensHeld)).toEqual([400, 99]);
    expect((await generator.metrics()).map(({ attention }) => attention.bytesHeld)).toEqual(kvBytes);
    await using alone = await Generator.open(model, { world: 1, backend: "wasm", capacity: 500 });
    expect(await continuation(alone, prompt, 10)).toEqual(tokens);
    // One token more than was promised is stored nowhere.
    expect(await continuation(generator, [...prompt, 1], 10)).toHaveLength(10);
    expect(await outcomeOf(continuation(generator, [...prompt, 1, 2], 10))).toThrow();
  });

  test("refuse a token more, and say whose memory is too small for it", async () => {
    expect(planMemory(model, { ...options, capacity: 500 }).problem).toBeUndefined();
    const { problem, advice } = planMemory(model, { ...options, capacity: 501 });
    expect(problem).toMatch(/^the KV cache takes .* of rank 0, which has .* for it$/);
    expect(advice).toContain("`kvDtype` f16");
    expect(advice).toContain("a `capacity` of at most 500");
    expect(await outcomeOf(Generator.open(model, { ...options, capacity: 501 }))).toThrow(UnfitOptions);
    // Equal shares waste what the large one has.
    expect(planMemory(model, { ...options, kvWeights: [1, 1] }).context).toBe(200);
    // Half the bytes of a token, twice the tokens.
    expect(planMemory(model, { ...options, kvDtype: "f16" }).context).toBe(1000);
  });

  test("are filled by an engine", async () => {
    await using engine = await Engine.open(model, { ...options, maxContext: 100 });
    const { blocks, blockTokens, rankBlockTokens } = engine.status();
    expect([blocks.total, blockTokens, rankBlockTokens]).toEqual([25, 20, [16, 4]]);
    // Blocks of 20 tokens: of 50, and of 41 that begin alike, two blocks are known the second and the third time.
    const prompt = Array.from({ length: 50 }, (_, at) => promptIds[at % promptIds.length] ?? 0);
    const answers: string[] = [];
    for (const length of [50, 50, 41]) {
      const parts = await Array.fromAsync(engine.generate(prompt.slice(0, length), { maxTokens: 8 }));
      answers.push(parts.map(({ text }) => text).join(""));
    }
    expect(answers[0]?.length).toBeGreaterThan(0);
    expect(answers[1]).toBe(answers[0] ?? "");
    expect(engine.status().totals.cachedTokens).toBe(80);
  });

  test("are shared alike by every group of ranks, and decide how many ranks share a cache", () => {
    const half = kvBytes.map((bytes) => bytes / 2);
    const plan = planMemory(model, { ...options, world: 4, kvBytes: half });
    // Two groups, each with one of the two KV heads.
    expect(plan.context).toBe(500);
    expect(plan.ranks.map(({ kvCache }) => kvCache)).toEqual([...half, ...half]);
    expect(() => planMemory(model, { ...options, world: 3 })).toThrow(UnfitOptions);
    expect(() => planMemory(model, { ...options, dcp: 1 })).toThrow(/`kvBytes` has 2 entries/);
  });

  test("decide how many ranks share a cache where the number of ranks is chosen, and are timed as they are", () => {
    const capacity = 64;
    for (const sizes of worldCandidates(model, { ...options, world: "auto", capacity }, 4)) {
      const candidate = spreadOptions({ ...options, capacity }, sizes);
      expect(sizes.dcp).toBe(2);
      const [timed] = planTrial(model, trialShape(model, candidate, capacity), [candidate]).options.candidates;
      expect(timed?.kvWeights).toEqual([4, 1]);
    }
  });

  test.each([
    [{ kvWeights: [] }],
    [{ kvWeights: [0, 0] }],
    [{ kvWeights: [1, 1.5] }],
    [{ kvWeights: [-1, 2] }],
    [{ kvWeights: 3 }],
    [{ kvBytes: [0] }],
    [{ kvBytes: ["1 GiB"] }],
  ] as const)("%o is refused", (wrong) => {
    const given = { world: 2, ...wrong } as unknown as Parameters<typeof planMemory>[1];
    expect(() => planMemory(model, given)).toThrow(/must be a list of non-negative integers/);
  });

  test("with larger blocks than caches have are refused", () => {
    const large = { world: 2, kvWeights: [2 ** 15, 1], blockSize: 64 };
    expect(() => planMemory(model, large)).toThrow(/`kvWeights` must be at most 16384 each with a blockSize of 64/);
  });
});
