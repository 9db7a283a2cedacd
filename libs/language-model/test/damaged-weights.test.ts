// Weights that are not finite never become text: whatever the number of ranks and the type of the KV cache.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DType } from "@lockstep/tensor";
import { Generator } from "../src/generation/generator.ts";
import { openModel } from "../src/model/model.ts";
import { writeRandomCheckpoint } from "./random-checkpoint.ts";

setDefaultTimeout(120_000);

const folder = mkdtempSync(join(tmpdir(), "lockstep-damaged-"));
afterAll(() => rmSync(folder, { recursive: true }));

const NORMAL = { num_attention_heads: 8, num_key_value_heads: 2, hidden_size: 32, max_position_embeddings: 64 };
const prompt = [5, 9, 700, 31, 8, 77, 4000, 12, 6];

function damaged(name: string, value: number, index = 0, dtype: DType = "f32") {
  const path = join(folder, `${name}-${value}-${index}-${dtype}`);
  writeRandomCheckpoint(path, "LlamaForCausalLM", NORMAL, { dtype, damage: { name, value, index } });
  return openModel(path);
}

for (const [projection, value, worlds] of [
  ["k_proj", Number.NaN, [1, 2, 3, 8]],
  ["k_proj", Number.POSITIVE_INFINITY, [1, 2, 3]],
  ["v_proj", Number.NaN, [1, 2, 3]],
  ["v_proj", Number.POSITIVE_INFINITY, [2, 4]],
] as const) {
  const name = `model.layers.1.self_attn.${projection}.weight`;
  const model = damaged(name, value);

  test.each(worlds)(`${value} in ${projection}, %d ranks`, async (world) => {
    for (const kvDtype of ["f32", "f16", "bf16", "f8e4m3"] as const) {
      await using generator = await Generator.open(model, { world, backend: "wasm", capacity: 32, kvDtype });
      const outcome = await generator.prefill(prompt).catch(String);
      expect(outcome).toContain("logits are not finite");
    }
    {
      // int8 has no NaN.
      await using generator = await Generator.open(model, { world, backend: "wasm", capacity: 32, kvDtype: "i8" });
      const outcome = await generator.prefill(prompt).catch(String);
      expect(outcome).toContain("NonFiniteKeyValue");
      expect(outcome).toContain(`the ${projection === "k_proj" ? "key" : "value"} of new token 0, layer 1, KV head`);
      // The step that failed is over: a rank that is alone goes on, and fails for the same reason again.
      if (world === 1) expect(await generator.prefill(prompt).catch(String)).toBe(outcome);
    }
    for (const kvDtype of ["f8e4m3", "i8"] as const) {
      const cache = { capacity: 32, kvDtype, kvScales: "static", calibration: prompt } as const;
      const sizes = { world, backend: "wasm", ...cache } as const;
      const outcome = await Generator.open(model, sizes).then(
        () => "opened",
        (error: Error) => `${error} ${error.cause}`,
      );
      expect(outcome).toContain(name);
    }
  });
}

// One row of the output table is the logit of one token, on the one rank that holds it.
for (const [value, token] of [
  [Number.NaN, 0],
  [Number.NaN, 4098],
  [Number.POSITIVE_INFINITY, 2000],
  [Number.NEGATIVE_INFINITY, 4098],
] as const) {
  const model = damaged("lm_head.weight", value, token * NORMAL.hidden_size);

  test.each([1, 2, 3])(
    `${value} in the output row of token ${token}, which the text lacks, %d ranks`,
    async (world) => {
      await using generator = await Generator.open(model, { world, backend: "wasm", capacity: 32 });
      expect(await generator.prefill(prompt).catch(String)).toContain("logits are not finite");
    },
  );
}

for (const dtype of ["bf16", "f16"] as const) {
  for (const [name, value] of [
    ["model.layers.1.self_attn.k_proj.weight", Number.NaN],
    ["model.layers.2.mlp.down_proj.weight", Number.POSITIVE_INFINITY],
    ["model.embed_tokens.weight", Number.NEGATIVE_INFINITY],
    ["lm_head.weight", Number.NaN],
  ] as const) {
    // The embedding of a token of the prompt.
    const model = damaged(name, value, name.includes("embed") ? 700 * NORMAL.hidden_size : 0, dtype);

    test.each([1, 3])(`${value} in ${dtype} in ${name}, %d ranks`, async (world) => {
      await using generator = await Generator.open(model, { world, backend: "wasm", capacity: 32 });
      expect(await generator.prefill(prompt).catch(String)).toContain("logits are not finite");
    });

    test.each([1, 2])(`int8 refuses ${value} in ${dtype} in ${name}, %d ranks`, async (world) => {
      const options = { world, backend: "wasm", capacity: 32, weights: "i8" } as const;
      const outcome = await Generator.open(model, options).then(
        () => "opened",
        (error: Error) => `${error} ${error.cause}`,
      );
      expect(outcome).toContain("ModelError");
      expect(outcome).toContain(`expected finite numbers in ${name}, to keep it in int8`);
    });
  }
}

test("what is not finite in a norm never becomes text in int8 either", async () => {
  const model = damaged("model.layers.1.post_attention_layernorm.weight", Number.NaN);
  for (const world of [1, 3]) {
    await using generator = await Generator.open(model, { world, backend: "wasm", capacity: 32, weights: "i8" });
    expect(await generator.prefill(prompt).catch(String)).toContain("logits are not finite");
  }
});
