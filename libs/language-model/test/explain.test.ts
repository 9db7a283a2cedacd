// The explanation of a step: who held what, each rank's share of the result, what was exchanged.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Explanation } from "../src/generation/explanation.ts";
import { Generator } from "../src/generation/generator.ts";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import { model, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const prompts = shortPrompts.slice(0, 2).map(({ promptIds }) => promptIds);

async function explain(
  options: Omit<GeneratorOptions, "capacity">,
  step: number | "last",
): Promise<{ explanation: Explanation | undefined; bytes: number[]; tokens: number }> {
  await using generator = await Generator.open(model, { backend: "wasm", capacity: 40, texts: 2, ...options });
  let tokens = 0;
  for await (const _ of generator.generateAll(prompts, { maxTokens: 12, explain: step })) tokens++;
  const ranks = await generator.metrics();
  const bytes = ranks.map(({ attention, tensorParallelBytes }) => attention.bytesReceived + tensorParallelBytes);
  return { explanation: await generator.explain(), bytes, tokens };
}

describe.each([
  { world: 1, dcp: 1, kvHeads: "replicated" },
  { world: 3, dcp: 3, kvHeads: "replicated" },
  { world: 4, dcp: 2, kvHeads: "sharded" },
] as const)("TP$world DCP$dcp, KV heads $kvHeads", ({ world, dcp, kvHeads }) => {
  test.each(["ag-rs", "a2a", "one-shot"] as const)("%s", async (combine) => {
    const { explanation } = await explain({ world, dcp, kvHeads, combine, interleave: 2 }, 5);
    if (explanation === undefined) expect.unreachable();
    expect(explanation).toMatchObject({ step: 5, kind: "decode" });
    if (world > 1) expect(explanation.combine).toBe(combine);
    for (const [text, prompt] of prompts.entries()) {
      // The prompt in the first step, then a token in each: every group holds all of them, each token once.
      const length = prompt.length + 4;
      for (let group = 0; group < world; group += dcp) {
        const runs = explanation.ranks.slice(group, group + dcp).flatMap(({ texts }) => texts[text]?.runs ?? []);
        const positions = runs.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, at) => start + at));
        expect(positions.sort((a, b) => a - b)).toEqual(Array.from({ length }, (_, at) => at));
        for (const { start } of runs) expect(start % 2).toBe(0);
      }
    }
    expect(explanation.queries.map(({ text, position }) => [text, position])).toEqual(
      prompts.map((prompt, text) => [text, prompt.length + 3]),
    );
    for (const { shares } of explanation.queries) {
      expect(shares.length).toBe(model.config.layers);
      for (const heads of shares) {
        expect(heads.length).toBe(model.config.queryHeads);
        for (const ranks of heads) {
          expect(ranks.length).toBe(dcp);
          // The LSE that the ranks agreed on is the sum of theirs.
          expect(ranks.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 5);
        }
      }
    }
    // A gather and a combine of one or two collectives in each layer; embedding, two sums in each layer, the choice.
    // A rank alone exchanges nothing.
    for (const { attention, tensorParallel } of explanation.ranks) {
      expect(tensorParallel.collectives).toBe(world === 1 ? 0 : 2 + 2 * model.config.layers);
      expect(tensorParallel.bytesReceived > 0).toBe(world > 1);
      if (world === 1) expect(attention).toEqual({ collectives: 0, bytesReceived: 0 });
      else expect([2, 3]).toContain(attention.collectives / model.config.layers);
    }
    expect(JSON.parse(JSON.stringify(explanation))).toEqual(explanation);
  });
});

test("the last step, and the bytes of all steps add up to the totals", async () => {
  const sums = [0, 0];
  let step = 1;
  for (let explanation: Explanation | undefined; ; step++) {
    ({ explanation } = await explain({ world: 2, dcp: 2, combine: "a2a" }, step));
    if (explanation === undefined) break;
    for (const { rank, attention, tensorParallel } of explanation.ranks) {
      sums[rank] = (sums[rank] ?? 0) + attention.bytesReceived + tensorParallel.bytesReceived;
    }
  }
  const { explanation, bytes } = await explain({ world: 2, dcp: 2, combine: "a2a" }, "last");
  expect(explanation?.step).toBe(step - 1);
  expect(sums).toEqual(bytes);
});

test("a step with drafts explains each of their tokens", async () => {
  const { explanation: drafted } = await explain({ world: 2, dcp: 2, maxDraft: 3 }, "last");
  expect(drafted?.queries.length).toBeGreaterThan(0);
});

describe("a prefill", () => {
  const chunks = { world: 2, dcp: 2, prefillChunk: 4, combine: "a2a" } as const;

  test("in memory is what it is untraced: queries are gathered, and each token has shares", async () => {
    const { explanation, bytes } = await explain(chunks, 2);
    const { bytes: untraced } = await explain(chunks, 1000);
    expect(bytes).toEqual(untraced);
    expect(explanation).toMatchObject({ kind: "prefill", step: 2, combine: "a2a" });
    expect(explanation?.queries.map(({ text, position }) => [text, position])).toEqual(
      Array.from({ length: Math.min(4, (prompts[0]?.length ?? 0) - 4) }, (_, at) => [0, 4 + at]),
    );
    for (const { shares } of explanation?.queries ?? []) {
      expect(shares.length).toBe(model.config.layers);
      for (const ranks of shares.flat()) expect(ranks.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 5);
    }
    expect(explanation?.ranks.map(({ texts }) => texts[0]?.held)).toEqual([4, 3]);
  });

  test("on GPUs gathers keys, and has no shares", async () => {
    const { explanation } = await explain({ ...chunks, backend: "webgpu", softwareVulkan: true }, 1);
    expect(explanation).toMatchObject({ kind: "prefill", queries: [] });
    expect(explanation?.ranks.map(({ texts }) => texts[0]?.held)).toEqual([2, 2]);
  });
});
