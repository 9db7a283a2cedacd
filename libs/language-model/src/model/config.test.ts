import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { ModelError } from "../errors.ts";
import { modelFolder } from "./model-files.ts";
import { readModelConfig } from "./config.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-config-"));
afterAll(() => rmSync(folder, { recursive: true }));
const shipped: Record<string, unknown> = JSON.parse(readFileSync(join(MODEL_FOLDER, "config.json"), "utf8"));

/** Reads the shipped config with some values changed; undefined removes one. */
function readWith(changes: Record<string, unknown>) {
  writeFileSync(join(folder, "config.json"), JSON.stringify({ ...shipped, ...changes }));
  return readModelConfig(modelFolder("test", folder));
}

test("the shipped model", () => {
  expect(readModelConfig(modelFolder("test", MODEL_FOLDER))).toEqual({
    architecture: "LlamaForCausalLM",
    layers: 8,
    hiddenSize: 256,
    intermediateSize: 704,
    queryHeads: 8,
    kvHeads: 2,
    headDim: 64,
    vocabularySize: 4096,
    normEpsilon: 1e-5,
    attentionBias: "none",
    queryKeyNorm: false,
    windows: [null, null, null, null, null, null, null, null],
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

describe("tokens that end a text, of config.json and of generation_config.json", () => {
  const path = join(folder, "generation_config.json");
  const read = (ofConfig: Record<string, unknown>, generation: object): readonly number[] => {
    writeFileSync(path, JSON.stringify(generation));
    try {
      return readWith(ofConfig).endTokens;
    } finally {
      rmSync(path);
    }
  };
  test.each<[string, Record<string, unknown>, object, number[]]>([
    ["one in each", { eos_token_id: 7 }, { eos_token_id: 9 }, [9, 7]],
    ["lists, each token once", { eos_token_id: [7, 9] }, { eos_token_id: [9, 8, 9] }, [9, 8, 7]],
    ["none in the one", { eos_token_id: 7 }, {}, [7]],
    ["null in the one", { eos_token_id: 7 }, { eos_token_id: null }, [7]],
    ["none in the other", { eos_token_id: undefined }, { eos_token_id: [9, 8] }, [9, 8]],
    ["null in the other", { eos_token_id: null }, { eos_token_id: 9 }, [9]],
    ["in neither: Llama's own", { eos_token_id: undefined }, {}, [2]],
    ["null in config.json alone", { eos_token_id: null }, {}, []],
  ])("%s", (_name, ofConfig, generation, expected) => {
    expect(read(ofConfig, generation)).toEqual(expected);
  });
  test.each([[-1], [1.5], ["2"], [true], [{}], [[[1]]], [[null]]])("%p is refused in either", (id) => {
    expect(() => read({ eos_token_id: 7 }, { eos_token_id: id })).toThrow(
      "generation_config.json: expected eos_token_id",
    );
    expect(() => read({ eos_token_id: id }, { eos_token_id: 7 })).toThrow("config.json: expected eos_token_id");
    expect(() => read({ eos_token_id: id }, {})).toThrow(ModelError);
  });
});

const qwen2 = {
  architectures: ["Qwen2ForCausalLM"],
  attention_bias: undefined,
  use_sliding_window: true,
  sliding_window: 32,
} as const;

describe("each architecture", () => {
  test.each([
    [{ attention_bias: true }, { attentionBias: "qkvo", queryKeyNorm: false }],
    [
      { ...qwen2, max_window_layers: 6 },
      { attentionBias: "qkv", windows: [...Array(6).fill(null), 32, 32] },
    ],
    [{ ...qwen2, use_sliding_window: false }, { windows: Array(8).fill(null) }],
    [
      { ...qwen2, layer_types: ["sliding_attention", ...Array(7).fill("full_attention")] },
      { windows: [32, ...Array(7).fill(null)] },
    ],
    [
      { architectures: ["Qwen3ForCausalLM"], head_dim: undefined },
      { attentionBias: "none", queryKeyNorm: true, headDim: 128 },
    ],
    [{ architectures: ["MistralForCausalLM"], sliding_window: 4096 }, { windows: Array(8).fill(4096) }],
    [{ architectures: ["MistralForCausalLM"], sliding_window: null }, { windows: Array(8).fill(null) }],
  ] as const)("%p", (changes, found) => {
    expect(readWith(changes)).toMatchObject(found);
  });

  test("scaled rotary angles lengthen what the model is made for", () => {
    const scaled = (rope: object) => readWith({ rope_parameters: { rope_theta: 1e4, ...rope } }).maxPositions;
    expect(scaled({ rope_type: "linear", factor: 2 })).toBe(32768);
    expect(scaled({ rope_type: "yarn", factor: 4, original_max_position_embeddings: 8192 })).toBe(32768);
    expect(scaled({ rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 })).toBe(16384);
  });
});

describe("rotary angles in their old, new and mixed places, as transformers joins them", () => {
  test.each([
    [{ rope_theta: 1e6, rope_parameters: { rope_type: "default" } }, { ropeTheta: 1e6 }],
    [{ rope_theta: 1e6, rope_parameters: { rope_theta: 5e5 } }, { ropeTheta: 5e5 }],
    [{ rope_theta: 1e6, rope_parameters: null }, { ropeTheta: 1e6 }],
    [
      { rope_parameters: { rope_theta: 5e5 }, rope_scaling: { type: "linear", factor: 2 } },
      { ropeTheta: 10000, ropeScaling: { type: "linear", factor: 2 } },
    ],
    [{ rope_parameters: { rope_theta: 5e5 }, rope_scaling: {} }, { ropeTheta: 5e5 }],
    [
      { rope_theta: 1e6, rope_parameters: undefined, rope_scaling: { rope_theta: 2e6, rope_type: "default" } },
      { ropeTheta: 2e6 },
    ],
    [
      {
        original_max_position_embeddings: 512,
        rope_parameters: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 1024, beta_slow: null },
      },
      { ropeScaling: { originalPositions: 512, betaSlow: 1, betaFast: 32, truncate: true } },
    ],
  ] as const)("%p", (changes, found) => {
    expect(readWith(changes)).toMatchObject(found);
  });
});

describe("absent keys take their class's defaults", () => {
  const read = (architecture: string, config: object = {}) => {
    writeFileSync(join(folder, "config.json"), JSON.stringify({ architectures: [architecture], ...config }));
    return readModelConfig(modelFolder("test", folder));
  };
  test.each([
    ["LlamaForCausalLM", [32000, 4096, 11008, 32, 32, 32, 128, 2048, null, [2]]],
    ["MistralForCausalLM", [32000, 4096, 14336, 32, 32, 8, 128, 131072, 4096, [2]]],
    ["Qwen2ForCausalLM", [151936, 4096, 22016, 32, 32, 32, 128, 32768, null, []]],
    ["Qwen3ForCausalLM", [151936, 4096, 22016, 32, 32, 32, 128, 32768, null, []]],
  ] as const)("%s", (name, expected) => {
    const c = read(name);
    const found: readonly unknown[] = [
      c.vocabularySize,
      c.hiddenSize,
      c.intermediateSize,
      c.layers,
      c.queryHeads,
      c.kvHeads,
      c.headDim,
      c.maxPositions,
      c.windows[0],
      c.endTokens,
    ];
    expect(found).toEqual(expected);
    expect(c).toMatchObject({ ropeTheta: 10000, normEpsilon: 1e-6, tiedEmbeddings: false });
    expect(read(name, { eos_token_id: null }).endTokens).toEqual([]);
    expect(read(name, { num_key_value_heads: null }).kvHeads).toBe(32);
    expect(read(name, { num_attention_heads: 16, num_key_value_heads: 8 }).headDim).toBe(
      name.startsWith("Qwen3") ? 128 : 256,
    );
  });
  test("a Qwen window that is in use holds 4096 tokens, from layer 28 on", () => {
    const { windows } = read("Qwen2ForCausalLM", { use_sliding_window: true });
    expect(windows).toEqual([...Array(28).fill(null), 4096, 4096, 4096, 4096]);
  });
});

describe("refused", () => {
  test.each([
    [
      { architectures: ["GPT2LMHeadModel"] },
      "an architecture among LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, but found GPT2LMHeadModel",
    ],
    [{ architectures: undefined }, "Qwen3ForCausalLM, but found none"],
    [
      { rope_parameters: { rope_type: "longrope", rope_theta: 10000 } },
      'rope_parameters.rope_type default, linear, llama3 or yarn, but found "longrope"',
    ],
    [{ rope_parameters: undefined, rope_scaling: { type: "dynamic", factor: 2 } }, 'but found "dynamic"'],
    [
      { rope_parameters: { rope_type: "linear" } },
      "rope_parameters.factor to be a positive number in f32, but found nothing",
    ],
    [
      { rope_parameters: { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
      "rope_parameters.low_freq_factor below high_freq_factor 4, but found 4",
    ],
    [{ rope_parameters: { rope_type: "yarn", factor: 4, mscale: 1 } }, "no rope_parameters.mscale, but found 1"],
    [{ rope_parameters: { full_attention: {}, sliding_attention: {} } }, "but found one for full_attention"],
    [{ rope_parameters: { rope_theta: 1e4, partial_rotary_factor: 0.5 } }, "partial_rotary_factor to be 1"],
    [{ quantization_config: { quant_method: "fp8" } }, "quantization_config to be null"],
    [{ mlp_bias: true }, "mlp_bias to be false, but found true"],
    [
      { architectures: ["MistralForCausalLM"], attention_bias: true },
      "attention_bias to be false for MistralForCausalLM, but found true",
    ],
    [
      { architectures: ["Qwen2ForCausalLM"], attention_bias: false },
      "attention_bias to be true for Qwen2ForCausalLM, but found false",
    ],
    [{ architectures: ["MistralForCausalLM"], sliding_window: 0 }, "sliding_window to be a positive integer"],
    [{ ...qwen2, max_window_layers: "all" }, "max_window_layers to be a non-negative integer"],
    [{ ...qwen2, layer_types: ["full_attention"] }, "layer_types for each of num_hidden_layers 8"],
    [
      { ...qwen2, layer_types: Array(8).fill("chunked_attention") },
      "layer_types[0] full_attention or sliding_attention",
    ],
    [
      { ...qwen2, use_sliding_window: false, layer_types: Array(8).fill("sliding_attention") },
      "a sliding_window for layer_types[0] sliding_attention, but found none in use",
    ],
    [{ rope_parameters: { rope_theta: 1 } }, "rope_theta above 1"],
    [{ hidden_act: "gelu" }, 'hidden_act to be "silu", but found "gelu"'],
    [{ attention_bias: "yes" }, 'attention_bias to be true or false, but found "yes"'],
    [{ hidden_size: null }, "hidden_size to be a positive integer below 2^31, but found null"],
    [{ num_hidden_layers: 0 }, "num_hidden_layers to be a positive integer below 2^31, but found 0"],
    [{ num_hidden_layers: 2_000_000 }, "num_hidden_layers of at most 4096, but found 2000000"],
    [{ num_hidden_layers: 2 ** 32 }, "num_hidden_layers to be a positive integer below 2^31"],
    [{ max_position_embeddings: 1e15 }, "max_position_embeddings to be a positive integer below 2^31"],
    [
      { rope_parameters: { rope_type: "yarn", factor: 4, beta_fast: 1e308 } },
      "beta_fast to be a positive number in f32",
    ],
    [{ rope_parameters: { rope_type: "yarn", factor: 4, attention_factor: 1e20 } }, "attention_factor whose square"],
    [{ rope_parameters: { rope_type: "linear", factor: 1e-38 } }, "positions / factor below 2^31, but found 1e-38"],
    [{ rope_parameters: { rope_type: "yarn", factor: 1e-30 } }, "positions / factor below 2^31, but found 1e-30"],
    [
      { rope_parameters: { rope_type: "llama3", factor: 1e-6, low_freq_factor: 1, high_freq_factor: 4 } },
      "positions / factor below 2^31, but found 0.000001",
    ],
    [{ rms_norm_eps: 1e-46 }, "rms_norm_eps to be a positive number in f32"],
    [{ architectures: [{ toString: 1 }] }, 'but found {"toString":1}'],
    [{ eos_token_id: ["</s>"] }, "eos_token_id to be a token id or a list of them"],
    [{ tie_word_embeddings: "yes" }, "tie_word_embeddings to be true or false"],
    [{ num_key_value_heads: 3 }, "num_key_value_heads to divide num_attention_heads, but found 3 and 8 heads"],
    [{ head_dim: 63 }, "an even head_dim, but found 63"],
    [{ rms_norm_eps: "small" }, 'rms_norm_eps to be a positive number in f32, but found "small"'],
  ] as const)("%p", (changes, message) => {
    expect(() => readWith(changes)).toThrow(ModelError);
    expect(() => readWith(changes)).toThrow(message);
  });

  test("a folder without config.json, and one whose config is not JSON", () => {
    expect(() => readModelConfig(modelFolder("test", join(folder, "nowhere")))).toThrow(
      "expected a readable file, but found none",
    );
    writeFileSync(join(folder, "config.json"), "{");
    expect(() => readModelConfig(modelFolder("test", folder))).toThrow("expected JSON");
    writeFileSync(join(folder, "config.json"), "[]");
    expect(() => readModelConfig(modelFolder("test", folder))).toThrow("expected a JSON object");
  });
});
