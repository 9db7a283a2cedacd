import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readModelConfig } from "./config.ts";
import { ModelError } from "./errors.ts";

const SHIPPED = fileURLToPath(new URL("../model", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "lockstep-config-"));
afterAll(() => rmSync(folder, { recursive: true }));
const shipped: Record<string, unknown> = JSON.parse(readFileSync(join(SHIPPED, "config.json"), "utf8"));

/** Reads the shipped config with some values changed; undefined removes one. */
function readWith(changes: Record<string, unknown>) {
  writeFileSync(join(folder, "config.json"), JSON.stringify({ ...shipped, ...changes }));
  return readModelConfig(folder);
}

test("the shipped model", () => {
  expect(readModelConfig(SHIPPED)).toEqual({
    architecture: "LlamaForCausalLM",
    layers: 8,
    hiddenSize: 256,
    intermediateSize: 704,
    queryHeads: 8,
    kvHeads: 2,
    headDim: 64,
    vocabularySize: 4096,
    normEpsilon: 1e-5,
    ropeTheta: 100000,
    maxPositions: 16384,
    tiedEmbeddings: true,
    endTokens: [0],
  });
});

test("values that older configs leave out or name differently", () => {
  const older = {
    rope_parameters: undefined,
    rope_theta: 500000,
    num_key_value_heads: undefined,
    head_dim: undefined,
    tie_word_embeddings: undefined,
    eos_token_id: [1, 2],
  };
  expect(readWith(older)).toMatchObject({
    ropeTheta: 500000,
    kvHeads: 8,
    headDim: 32,
    tiedEmbeddings: false,
    endTokens: [1, 2],
  });
  expect(readWith({ rope_parameters: undefined }).ropeTheta).toBe(10000);
});

describe("refused", () => {
  test.each([
    [{ architectures: ["GPT2LMHeadModel"] }, "an architecture among LlamaForCausalLM, but found GPT2LMHeadModel"],
    [{ architectures: undefined }, "an architecture among LlamaForCausalLM, but found none"],
    [{ rope_parameters: { rope_type: "yarn", rope_theta: 10000 } }, "rope_type default (no scaling), but found yarn"],
    [{ rope_parameters: undefined, rope_scaling: { type: "linear", factor: 2 } }, "but found linear"],
    [{ rope_parameters: { rope_theta: 1 } }, "rope_theta above 1"],
    [{ hidden_act: "gelu" }, 'hidden_act to be "silu", but found "gelu"'],
    [{ attention_bias: true }, "attention_bias to be false, but found true"],
    [{ hidden_size: undefined }, "hidden_size to be a positive integer, but found nothing"],
    [{ num_hidden_layers: 0 }, "num_hidden_layers to be a positive integer, but found 0"],
    [{ num_key_value_heads: 3 }, "num_key_value_heads to divide num_attention_heads, but found 3 and 8 heads"],
    [{ head_dim: 63 }, "an even head_dim, but found 63"],
    [{ rms_norm_eps: "small" }, 'rms_norm_eps to be a positive number, but found "small"'],
  ] as const)("%p", (changes, message) => {
    expect(() => readWith(changes)).toThrow(ModelError);
    expect(() => readWith(changes)).toThrow(message);
  });

  test("a folder without config.json, and one whose config is not JSON", () => {
    expect(() => readModelConfig(join(folder, "nowhere"))).toThrow("expected a readable file, but found none");
    writeFileSync(join(folder, "config.json"), "{");
    expect(() => readModelConfig(folder)).toThrow("expected JSON");
    writeFileSync(join(folder, "config.json"), "[]");
    expect(() => readModelConfig(folder)).toThrow("expected a JSON object");
  });
});
