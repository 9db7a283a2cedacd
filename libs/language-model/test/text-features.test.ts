// Quantised KV, chunked prefill, speculation and several texts at once: the tokens stay what they were.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { UnfitOptions } from "../src/errors.ts";
import { Generator } from "../src/generation/generator.ts";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import { continuation, differences, greedy, model, shortPrompts } from "./shipped-model.ts";
import { outcomeOf } from "../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

const prompts = shortPrompts.map(({ promptIds }) => promptIds);
const base = { backend: "wasm" } as const;

/** The tokens of every short prompt, continued together. */
async function together(options: Omit<GeneratorOptions, "capacity">, count: number, endTokens: number[] = []) {
  await using generator = await Generator.open(model, { ...options, texts: prompts.length, capacity: 20 + count });
  const tokens: number[][] = prompts.map(() => []);
  for await (const { text, token } of generator.generateAll(prompts, { maxTokens: count, endTokens })) {
    tokens[text]?.push(token);
  }
  const [metrics] = await generator.metrics();
  return { tokens, metrics: metrics ?? expect.unreachable() };
}

const expected = (count: number): number[][] => shortPrompts.map(({ greedyIds }) => greedyIds.slice(0, count));

describe("several texts at once get the tokens that each gets alone", () => {
  test.each([1, 2, 3, 4, 8])("%d ranks", async (world) => {
    expect((await together({ ...base, world }, 24)).tokens).toEqual(expected(24));
  });

  test("in steps that are too short for all prompts", async () => {
    expect((await together({ ...base, world: 2, maxStepTokens: 3 }, 8)).tokens).toEqual(expected(8));
  });

  test("texts that end go, the others go on", async () => {
    const newline = 199;
    const ends = expected(40).map((ids) => (ids.includes(newline) ? ids.slice(0, ids.indexOf(newline)) : ids));
    expect(new Set(ends.map(({ length }) => length)).size).toBeGreaterThan(1);
    expect((await together({ ...base, world: 2 }, 40, [newline])).tokens).toEqual(ends);
  });

  test("on webgpu", async () => {
    const options = { world: 2, backend: "webgpu", softwareVulkan: true } as const;
    expect((await together(options, 4)).tokens).toEqual(expected(4));
  });
});

describe("speculation", () => {
  test.each([
    [1, 4],
    [3, 2],
    [4, 7],
  ])("%d ranks, drafts of %d tokens: the same tokens in fewer steps", async (world, maxDraft) => {
    const { tokens, metrics } = await together({ ...base, world, maxDraft }, 64);
    expect(tokens).toEqual(expected(64));
    expect(metrics.accepted).toBeGreaterThan(0);
    expect(metrics.drafted).toBeGreaterThan(metrics.accepted);
    const plain = await together({ ...base, world }, 64);
    expect(metrics.attention.steps).toBeLessThan(plain.metrics.attention.steps);
    // Rejected tokens are gone from the cache: each text holds its prompt and what it generated, but for the last
    // token.
    if (world === 1) {
      expect(metrics.attention.tokensHeld).toBe(prompts.reduce((sum, { length }) => sum + length + 63, 0));
    }
  });
});

describe("chunked prefill over the sharded cache", () => {
  const medium = greedy.filter(({ promptIds }) => promptIds.length === 1115);

  test.each([1, 5, 64])("%d tokens at a time", async (prefillChunk) => {
    expect(await differences({ ...base, world: 3, prefillChunk }, shortPrompts, 16)).toEqual([]);
  });

  test("1115 tokens in chunks of 200, KV heads sharded, interleave 4", async () => {
    const options = { ...base, world: 4, dcp: 2, kvHeads: "sharded", interleave: 4, prefillChunk: 200 } as const;
    expect(await differences(options, medium, 32)).toEqual([]);
  });

  test("with several texts, drafts and a quantised cache", async () => {
    const options = { ...base, world: 2, dcp: 2, prefillChunk: 4, maxDraft: 3 } as const;
    expect((await together(options, 24)).tokens).toEqual(expected(24));
    const alone = { ...base, world: 1, kvDtype: "i8" } as const;
    const quantised = await together({ ...options, kvDtype: "i8" }, 8);
    expect(quantised.tokens).toEqual((await together(alone, 8)).tokens);
  });
});

describe("quantised KV", () => {
  test.each([
    ["f8e4m3", "per-token", 8],
    ["i8", "per-token", 8],
    ["f8e4m3", "static", 0],
    ["i8", "static", 0],
  ] as const)(
    "%s, %s scales: little more than a quarter of the bytes, and the text of the sure prompts",
    async (kvDtype, kvScales, scaleBytes) => {
      for (const world of [1, 2, 4]) {
        for (const { promptIds, greedyIds } of shortPrompts.slice(0, 2)) {
          const options = { ...base, world, dcp: world, kvDtype, kvScales, calibration: promptIds, capacity: 64 };
          await using generator = await Generator.open(model, options);
          expect(await continuation(generator, promptIds, 12)).toEqual(greedyIds.slice(0, 12));
          const [rank] = await generator.metrics();
          expect(rank?.attention.bytesHeld).toBe(Math.ceil(32 / (16 * world)) * 16 * 2 * (2 * 64 + scaleBytes) * 8);
        }
      }
    },
  );

  test("static scales without calibration tokens, and scales of a cache of floats, are refused", async () => {
    const alone = { ...base, world: 1, capacity: 8, kvScales: "static" } as const;
    const opening = Generator.open(model, { ...alone, kvDtype: "i8" });
    expect(await outcomeOf(opening)).toThrow(UnfitOptions);
    expect(await outcomeOf(opening)).toThrow("a KV cache in i8 needs calibration tokens for static scales");
    expect(await outcomeOf(Generator.open(model, alone))).toThrow("`kvScales` must be left out for a kvDtype of f32");
  });
});
