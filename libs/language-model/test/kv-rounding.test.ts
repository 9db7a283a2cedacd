// What quantised keys and values cost, against a float64 model whose keys and values are rounded in the same way.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { float8ToNumber, numberToFloat8 } from "@lockstep/tensor";
import { Generator } from "../src/generation/generator.ts";
import { float64Logits, logProbabilities } from "./float64-model.ts";
import { MODEL_FOLDER, model, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(300_000);

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
    await using generator = await Generator.open(model, { world: 2, dcp: 2, backend: "wasm", capacity: 32, kvDtype });
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
