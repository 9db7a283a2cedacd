// Weights that are not finite never become text: whatever the number of ranks and the type of the KV cache.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Generator } from "../src/generator.ts";
import { openModel } from "../src/model.ts";
import { writeRandomCheckpoint } from "./random-checkpoint.ts";

setDefaultTimeout(120_000);

const folder = mkdtempSync(join(tmpdir(), "lockstep-damaged-"));
afterAll(() => rmSync(folder, { recursive: true }));

const NORMAL = { num_attention_heads: 8, num_key_value_heads: 2, hidden_size: 32, max_position_embeddings: 64 };
const prompt = [5, 9, 700, 31, 8, 77, 4000, 12, 6];

for (const [projection, value] of [
  ["v_proj", Number.NaN],
  ["v_proj", Number.POSITIVE_INFINITY],
] as const) {
  const name = `model.layers.1.self_attn.${projection}.weight`;
  const path = join(folder, `${projection}${value}`);
  writeRandomCheckpoint(path, "LlamaForCausalLM", NORMAL, { damage: { name, value } });
  const model = openModel(path);

  test.each([1, 2, 3, 4, 8])(`${value} in ${projection}, %d ranks`, async (world) => {
    for (const kvDtype of ["f32", "f16", "bf16"] as const) {
      await using generator = await Generator.open(model, { world, backend: "wasm", capacity: 32, kvDtype });
      const outcome = await generator.prefill(prompt).catch(String);
      expect(outcome).toContain("logits are not finite");
    }
    for (const kvDtype of ["f8e4m3", "i8"] as const) {
      const sizes = { world, backend: "wasm", capacity: 32, kvDtype, calibration: prompt } as const;
      const outcome = await Generator.open(model, sizes).then(
        () => "opened",
        (error: Error) => `${error} ${error.cause}`,
      );
      expect(outcome).toContain(name);
    }
  });
}
