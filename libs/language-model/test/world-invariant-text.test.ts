// The shipped model on any number of ranks: the same logits to the last bit, the same texts, drawn ones too.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Engine } from "../src/engine/engine.ts";
import type { RequestOptions } from "../src/engine/request-options.ts";
import { Generator } from "../src/generation/generator.ts";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import { continuation, greedy, model, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const { promptIds, greedyIds } = shortPrompts[0] ?? expect.unreachable();
const mode = { backend: "wasm", deterministic: "world-invariant" } as const;
const TOKENS = 8;

/** Tokens that follow a prompt, and a digest of all bits of the last one's logits. */
async function generated(options: Omit<GeneratorOptions, "capacity">): Promise<{ tokens: number[]; bits: string }> {
  await using generator = await Generator.open(model, { ...mode, capacity: 64, ...options });
  const tokens = await continuation(generator, promptIds, TOKENS);
  // Of the whole text in one step: drafts would leave other rows behind.
  await generator.prefill([...promptIds, ...tokens]);
  const logits = await generator.logits();
  expect(logits.length).toBe(model.config.vocabularySize);
  return { tokens, bits: new Bun.CryptoHasher("sha256").update(logits).digest("hex") };
}

describe("logits have the same bits on 1, 2, 3, 4, 5 and 8 ranks", () => {
  test.each<readonly [string, Partial<GeneratorOptions>]>([
    ["as stored", {}],
    ["in int8, scales from a sample", { weights: "i8", kvDtype: "i8", kvScales: "static", calibration: promptIds }],
  ])("%s", async (_, settings) => {
    const alone = await generated({ world: 1, ...settings });
    for (const options of [
      { world: 2, dcp: 2, interleave: 8 },
      { world: 3, kvWeights: [2, 1, 1] },
      { world: 4, kvHeads: "replicated", dcp: 2, blockSize: 4, maxStepTokens: 5 },
      { world: 5, dcp: 1 },
      { world: 8, combine: "ag-rs", maxDraft: 2 },
    ] as const) {
      expect({ options, ...(await generated({ ...options, ...settings })) }).toEqual({ options, ...alone });
    }
  });
});

test("the tokens are those of the model", async () => {
  expect((await generated({ world: 3 })).tokens).toEqual(greedyIds.slice(0, TOKENS));
});

test("an engine draws the same tokens, with the same log-probabilities, on other ranks, whatever comes beside", async () => {
  const requests = Array.from({ length: 3 }, (_, index): { prompt: number[]; options: RequestOptions } => ({
    prompt: (greedy[index % greedy.length]?.promptIds ?? []).slice(0, 4 + 5 * index),
    options: { maxTokens: 4, temperature: 0.9, topP: index % 2 === 0 ? 1 : 0.9, seed: index, logprobs: 3 },
  }));
  const answer = async (engine: Engine, { prompt, options }: (typeof requests)[number]) => {
    const tokens = [];
    for await (const part of engine.generate(prompt, options)) tokens.push(...part.tokens);
    return tokens;
  };
  const room = { ...mode, maxContext: 128 };
  const alone = [];
  {
    await using engine = await Engine.open(model, { ...room, world: 1, prefixCache: false });
    for (const request of requests) alone.push(await answer(engine, request));
  }
  for (const options of [
    { world: 3, maxStepTokens: 9 },
    { world: 4, dcp: 4, kvTokens: 128, blockSize: 4 },
  ]) {
    await using engine = await Engine.open(model, { ...room, ...options });
    expect(await Promise.all(requests.map((request) => answer(engine, request)))).toEqual(alone);
  }
});
