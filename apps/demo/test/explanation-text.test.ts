// How the explanation of a step reads, for steps of the shipped model.
import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { type Explanation, Generator, type GeneratorOptions, openModel } from "@lockstep/language-model";
import { formatExplanation } from "../src/explanation-text.ts";

setDefaultTimeout(120_000);

const model = openModel(fileURLToPath(new URL("../model", import.meta.url)));
const prompts = ["Psa23:1 The LORD is", "Ge1:1 In the"].map((prompt) => model.tokenizer.encode(prompt));

/** Explains a step of two texts, of 12 tokens each. */
async function explain(options: Omit<GeneratorOptions, "capacity">, step: number): Promise<Explanation> {
  await using generator = await Generator.open(model, { backend: "wasm", capacity: 40, texts: 2, ...options });
  for await (const { token } of generator.generateAll(prompts, { maxTokens: 12, explain: step })) {
    expect(token).toBeLessThan(model.config.vocabularySize);
  }
  return (await generator.explain()) ?? expect.unreachable();
}

test.each([
  { world: 1, dcp: 1, kvHeads: "replicated" },
  { world: 3, dcp: 3, kvHeads: "replicated" },
  { world: 4, dcp: 2, kvHeads: "sharded" },
] as const)("a decode step of TP$world DCP$dcp: a line for each layer", async ({ world, dcp, kvHeads }) => {
  const explanation = await explain({ world, dcp, kvHeads, combine: "a2a", interleave: 2 }, 5);
  const table = formatExplanation(explanation).split("\n");
  expect(table[0]).toStartWith("step 5, decode");
  expect(table.filter((line) => /^ +\d.*%/.test(line)).length).toBe(model.config.layers);
});

test("a prefill: a line for each layer, or, where keys were gathered, none", async () => {
  const explanation = await explain({ world: 2, dcp: 2, prefillChunk: 4, combine: "a2a" }, 1);
  const table = formatExplanation(explanation).split("\n");
  expect(table[0]).toBe("step 1, prefill, combine a2a");
  expect(table.filter((line) => /^ +\d.*%/.test(line)).length).toBe(model.config.layers);
  const gathered = formatExplanation({ ...explanation, queries: [] });
  expect(gathered).toStartWith("step 1, prefill\n");
  expect(gathered).toEndWith("over the keys and values of all ranks");
});
