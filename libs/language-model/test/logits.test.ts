// Logits against a float64 forward pass and against Hugging Face transformers.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Generator } from "../src/generation/generator.ts";
import { float64Logits, logProbabilities } from "./float64-model.ts";
import { firstTop5, MODEL_FOLDER, model, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const exact = shortPrompts.map(({ promptIds }) => float64Logits(MODEL_FOLDER, promptIds));

test("the float64 forward pass is the model transformers runs", () => {
  for (const [entry, logits] of exact.entries()) {
    const found = logProbabilities(logits);
    for (const [id, wanted] of firstTop5(entry)) expect(Math.abs((found[id] ?? 0) - wanted)).toBeLessThan(1e-4);
  }
});

describe.each([
  { world: 1, dcp: 1 },
  { world: 2, dcp: 2 },
  { world: 3, dcp: 3 },
  { world: 4, dcp: 2 },
])("TP$world DCP$dcp", ({ world, dcp }) => {
  test("logits agree with float64 to 1e-4, and with transformers' best five", async () => {
    await using generator = await Generator.open(model, { world, dcp, backend: "wasm", capacity: 32 });
    for (const [entry, { promptIds }] of shortPrompts.entries()) {
      await generator.prefill(promptIds);
      const logits = await generator.logits();
      const wanted = exact[entry] ?? expect.unreachable();
      expect(logits.length).toBe(wanted.length);
      let worst = 0;
      for (const [id, logit] of logits.entries()) worst = Math.max(worst, Math.abs(logit - (wanted[id] ?? Number.NaN)));
      expect(worst).toBeLessThan(1e-4);
      const found = logProbabilities(logits);
      for (const [id, logProbability] of firstTop5(entry)) {
        expect(Math.abs((found[id] ?? 0) - logProbability)).toBeLessThan(1e-4);
      }
    }
  });
});

test("the same bits on every run", async () => {
  const prompt = shortPrompts[0]?.promptIds ?? expect.unreachable();
  const runs: Float32Array[] = [];
  for (let run = 0; run < 3; run++) {
    await using generator = await Generator.open(model, { world: 3, backend: "wasm", capacity: 32 });
    await generator.step(prompt);
    runs.push(await generator.logits());
  }
  expect(runs[1]).toEqual(runs[0] ?? expect.unreachable());
  expect(runs[2]).toEqual(runs[0] ?? expect.unreachable());
});
