// What KV in 16 and 8 bits costs, on the shipped model and on a public one where it lies beside the repository.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { float8ToNumber, numberToFloat8 } from "@lockstep/tensor";
import { type Expectation, readExpectations } from "../src/expectations.ts";
import { Generator } from "../src/generator.ts";
import { KV_KINDS, type KvAccuracy, measureKv } from "../src/kv-accuracy.ts";
import { type Model, openModel } from "../src/model.ts";
import { float64Logits, logProbabilities } from "./float64-model.ts";
import { MODEL_FOLDER, model, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(300_000);

/** Nats, of the log-probability of the tokens that KV in f32 chooses: well above what docs/kv-quantisation.md has, far below damage. */
const MOST: Readonly<Record<string, number>> = {
  f16: 1.5e-3,
  bf16: 1e-2,
  "int8 static": 0.1,
  "int8 per token": 0.035,
  "fp8 static": 0.15,
  "fp8 per token": 0.09,
};

async function expectAccuracy(of: Model, entries: readonly Expectation[], tokens: number): Promise<void> {
  const found = new Map<string, KvAccuracy>();
  for await (const accuracy of measureKv(of, { world: 2, backend: "wasm" }, entries, tokens)) {
    const { name } = accuracy.kind;
    found.set(name, accuracy);
    expect([name, accuracy.meanError < (MOST[name] ?? 0), accuracy.meanError > 0]).toEqual([name, true, true]);
    for (const { kept, tokens: asked, change } of accuracy.texts) {
      expect([name, asked, kept === asked]).toEqual([name, tokens, change === undefined]);
      // A token changes only where f32 was less sure of it than the type is exact.
      if (change !== undefined) expect([name, change.gap < change.error]).toEqual([name, true]);
    }
  }
  expect([...found.keys()]).toEqual(KV_KINDS.map(({ name }) => name));
  // Not so for fp8, whose numbers are as exact, for their size, under any scale that keeps them in range: there chance decides.
  const [fine, coarse] = [found.get("int8 per token"), found.get("int8 static")];
  expect(fine?.meanError).toBeLessThan(coarse?.meanError ?? 0);
  expect(fine?.divergence).toBeLessThan(coarse?.divergence ?? 0);
}

const PUBLIC_FOLDER = fileURLToPath(new URL("../../../../shared/checkpoints/stories260k", import.meta.url));

test("on the shipped model", () => expectAccuracy(model, shortPrompts, 24));

if (existsSync(PUBLIC_FOLDER)) {
  test("on stories260k, which lies beside the repository", async () => {
    const stories = openModel(PUBLIC_FOLDER);
    const entries = readExpectations(join(PUBLIC_FOLDER, "greedy.json"), stories.config.vocabularySize);
    await expectAccuracy(stories, entries, 60);
  });
}

/** A row rounded by its own scale, in float64. */
const rounded = {
  i8: (row: Float64Array): Float64Array => {
    const scale = Math.max(...row.map(Math.abs)) / 127;
    return scale === 0 ? row : row.map((x) => scale * Math.round(x / scale));
  },
  f8e4m3: (row: Float64Array): Float64Array => {
    const scale = Math.max(...row.map(Math.abs)) / 448;
    return scale === 0 ? row : row.map((x) => scale * float8ToNumber(numberToFloat8(x / scale)));
  },
} as const;

describe("scales per token cost what rounding costs, and no more", () => {
  test.each(["i8", "f8e4m3"] as const)("%s against a float64 model of rounded keys and values", async (kvDtype) => {
    await using generator = await Generator.open(model, { world: 2, backend: "wasm", capacity: 32, kvDtype });
    for (const { promptIds } of shortPrompts) {
      await generator.prefill(promptIds);
      const found = logProbabilities(Float64Array.from(await generator.logits()));
      const wanted = logProbabilities(float64Logits(MODEL_FOLDER, promptIds, rounded[kvDtype]));
      const exact = logProbabilities(float64Logits(MODEL_FOLDER, promptIds));
      const distance = (from: Float64Array): number =>
        Math.sqrt(found.reduce((sum, log, token) => sum + (log - (from[token] ?? 0)) ** 2, 0) / found.length);
      // What is left are the few elements that f32 and float64 round to different neighbours.
      expect(distance(wanted)).toBeLessThan(0.2 * distance(exact));
    }
  });
});
