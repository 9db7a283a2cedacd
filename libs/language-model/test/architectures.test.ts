// Random checkpoints of every architecture against a float64 forward pass, over several ranks.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Generator } from "../src/generation/generator.ts";
import { openModel } from "../src/model/model.ts";
import { float64Logits } from "./float64-model.ts";
import { type CheckpointForm, writeRandomCheckpoint } from "./random-checkpoint.ts";

setDefaultTimeout(60_000);

const root = mkdtempSync(join(tmpdir(), "lockstep-architectures-"));
afterAll(() => rmSync(root, { recursive: true }));

const IDS = [5, 4098, 17, 17, 900, 2, 3001, 64, 12, 77, 4000, 1, 8, 250, 31, 999, 5];

interface Case {
  readonly name: string;
  readonly architecture: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly form?: CheckpointForm;
}

const YARN = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16 };
const LLAMA3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 };
const CASES: readonly Case[] = [
  { name: "Llama", architecture: "LlamaForCausalLM", config: {} },
  {
    name: "Llama 3 (scaled rotary angles, tied embeddings, bf16, several files)",
    architecture: "LlamaForCausalLM",
    config: { rope_theta: 500, rope_scaling: { rope_type: "llama3", ...LLAMA3 }, tie_word_embeddings: true },
    form: { dtype: "bf16", isSharded: true },
  },
  {
    name: "Llama with every bias and linear scaling",
    architecture: "LlamaForCausalLM",
    config: { attention_bias: true, rope_scaling: { type: "linear", factor: 2 } },
  },
  {
    name: "Qwen2 (biases, a window in the upper layers, YaRN, f16)",
    architecture: "Qwen2ForCausalLM",
    config: {
      use_sliding_window: true,
      sliding_window: 6,
      max_window_layers: 1,
      rope_scaling: YARN,
      tie_word_embeddings: true,
    },
    form: { dtype: "f16" },
  },
  {
    name: "Qwen2 with its window out of use",
    architecture: "Qwen2ForCausalLM",
    config: { use_sliding_window: false, sliding_window: 3, max_window_layers: 0 },
    form: { isSharded: true },
  },
  {
    name: "Qwen3 (normalised heads of a size of their own)",
    architecture: "Qwen3ForCausalLM",
    config: { head_dim: 10, rope_parameters: { rope_type: "default", rope_theta: 1e6 } },
    form: { isSharded: true },
  },
  {
    name: "Llama of more KV heads than ranks",
    architecture: "LlamaForCausalLM",
    config: { num_attention_heads: 8, num_key_value_heads: 4, head_dim: 8, attention_bias: true },
    form: { dtype: "bf16" },
  },
  { name: "Mistral (a sliding window)", architecture: "MistralForCausalLM", config: { sliding_window: 5 } },
];

describe.each(CASES)("$name", ({ name, architecture, config, form }) => {
  const folder = join(root, name.replaceAll(/\W+/g, "-"));
  writeRandomCheckpoint(folder, architecture, config, form);
  const model = openModel(folder);
  const exact = float64Logits(folder, IDS);

  test.each([1, 2, 3, 4])("%d ranks give the logits of float64", async (world) => {
    await using generator = await Generator.open(model, { world, backend: "wasm", capacity: 32, blockSize: 4 });
    // A prompt, then tokens one by one over what is cached.
    await generator.prefill(IDS.slice(0, -3));
    for (const id of IDS.slice(-3)) await generator.step([id]);
    const logits = await generator.logits();
    expect(logits.length).toBe(exact.length);
    const spread = Math.max(...exact) - Math.min(...exact);
    let worst = 0;
    for (const [id, logit] of logits.entries()) worst = Math.max(worst, Math.abs(logit - (exact[id] ?? Number.NaN)));
    expect(worst).toBeLessThan(1e-5 * spread);
  });
});

test("every part of a case matters: without it the float64 logits are others", () => {
  const changes: [number, Readonly<Record<string, unknown>>][] = [
    [1, { rope_scaling: undefined }],
    [2, { rope_scaling: undefined }],
    [3, { rope_scaling: undefined }],
    [3, { use_sliding_window: false }],
    [7, { sliding_window: null }],
  ];
  for (const [index, change] of changes) {
    const { architecture, config, form } = CASES[index] ?? expect.unreachable();
    const whole = join(root, "whole");
    const changed = join(root, "changed");
    writeRandomCheckpoint(whole, architecture, config, { ...form, isSharded: false });
    writeRandomCheckpoint(changed, architecture, { ...config, ...change }, { ...form, isSharded: false });
    const [a, b] = [float64Logits(whole, IDS), float64Logits(changed, IDS)];
    expect(a.some((logit, id) => Math.abs(logit - (b[id] ?? 0)) > 1e-2)).toBe(true);
  }
});
