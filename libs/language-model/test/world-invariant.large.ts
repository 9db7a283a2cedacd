// Every world and layout of the shipped model that is legal, with every combine: one rank's logits to the last bit, of
// short texts and of a long one.
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Generator } from "../src/generation/generator.ts";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import { legalSizes } from "./legal-sizes.ts";
import { checkWorlds } from "./random-worlds.ts";
import { continuation, mediumPrompt, model, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(1_800_000);

const TOKENS = 24;
const entries = [...shortPrompts, ...mediumPrompt];

/** For each text the tokens that follow, and the words of the last logits. */
async function generated(options: GeneratorOptions): Promise<unknown[]> {
  const found: unknown[] = [];
  await using generator = await Generator.open(model, {
    ...{ backend: "wasm", deterministic: "world-invariant", capacity: 1200 },
    ...options,
  });
  for (const { promptIds } of entries) {
    const tokens = await continuation(generator, promptIds, TOKENS);
    found.push([tokens, new Uint32Array((await generator.logits()).buffer)]);
  }
  return found;
}

let alone: unknown[] = [];
beforeAll(async () => {
  alone = await generated({ world: 1 });
});

describe.each(legalSizes([2, 3, 4, 5, 6, 7, 8]))("TP$world DCP$dcp, KV heads $kvHeads", (sizes) => {
  test.each(["a2a", "ag-rs", "auto"] as const)("combine %s", async (combine) => {
    for (const blocks of [{}, { interleave: 4, blockSize: 8 }, { blockSize: 64, interleave: 64, maxStepTokens: 33 }]) {
      expect(await generated({ ...sizes, combine, ...blocks })).toEqual(alone);
    }
  });
});

test.each([{}, { kvDtype: "f8e4m3" }, { kvDtype: "bf16", weights: "i8" }] as const)(
  "random worlds, texts mixed, %o",
  async (settings) => {
    await checkWorlds(model, settings, { runs: 5, worlds: 6 });
  },
);
