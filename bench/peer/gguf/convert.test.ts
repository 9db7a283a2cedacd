// GGUF files written from small checkpoints, read back by a reader of the tests.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { StoredTensors } from "../../../libs/language-model/test/stored-tensors.ts";
import { writeRandomCheckpoint } from "../../../libs/language-model/test/random-checkpoint.ts";
import { SHAPES } from "../../../tests/checkpoints/shapes.ts";
import { writeCheckpoint } from "../../../tests/checkpoints/write-checkpoint.ts";
import { convertToGguf } from "./convert.ts";
import type { ElementType } from "./element-types.ts";
import { type ReadGguf, type ReadTensor, readGguf } from "./read-gguf.ts";

setDefaultTimeout(120_000);

const DEMO_MODEL = fileURLToPath(new URL("../../../apps/demo/model", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "lockstep-gguf-"));
afterAll(() => rmSync(root, { recursive: true }));

const tiny = { num_hidden_layers: 2, vocab_size: 2051, tie_word_embeddings: true } as const;
const folders = {
  llama: join(root, "llama"),
  qwen3: join(root, "qwen3"),
} as const;
writeCheckpoint(folders.llama, { ...SHAPES["llama-small"], ...tiny, hidden_size: 128, intermediate_size: 96 });
writeCheckpoint(folders.qwen3, { ...SHAPES["qwen3-small"], ...tiny, hidden_size: 64, intermediate_size: 96 });

function converted(model: keyof typeof folders, type: ElementType): ReadGguf {
  const path = join(root, `${model}-${type}.gguf`);
  convertToGguf(folders[model], path, type);
  return readGguf(path);
}

function tensor({ tensors }: ReadGguf, name: string): ReadTensor {
  return tensors.get(name) ?? expect.unreachable();
}

function stored(model: keyof typeof folders, name: string): Float64Array {
  using tensors = new StoredTensors(folders[model]);
  return tensors.rows(name, 0, tensors.sizeOf(name).rows);
}

describe("metadata", () => {
  test("has the model's sizes", () => {
    const { metadata } = converted("llama", "f32");
    expect(Object.fromEntries([...metadata].filter(([key]) => key.startsWith("llama.")))).toEqual({
      "llama.attention.head_count": 8,
      "llama.attention.head_count_kv": 2,
      "llama.attention.key_length": 64,
      "llama.attention.layer_norm_rms_epsilon": Math.fround(1e-5),
      "llama.attention.value_length": 64,
      "llama.block_count": 2,
      "llama.context_length": 131072,
      "llama.embedding_length": 128,
      "llama.feed_forward_length": 96,
      "llama.rope.dimension_count": 64,
      "llama.rope.freq_base": 500000,
      "llama.vocab_size": 2051,
    });
    expect(metadata.get("general.architecture")).toBe("llama");
    expect(converted("qwen3", "f32").metadata.get("general.architecture")).toBe("qwen3");
  });

  test("has the tokenizer: every id, ids without a token, merges as texts", () => {
    const { metadata } = converted("llama", "f32");
    const tokens = metadata.get("tokenizer.ggml.tokens");
    const types = metadata.get("tokenizer.ggml.token_type");
    if (!Array.isArray(tokens) || !Array.isArray(types)) expect.unreachable();
    expect([tokens.length, types.length]).toEqual([2051, 2051]);
    expect([tokens[97], types[97]]).toEqual(["a", 1]);
    expect([tokens[300], types[300]]).toEqual(["[PAD300]", 5]);
    expect([tokens[2049], types[2049]]).toEqual(["<|end_of_text|>", 3]);
    expect(metadata.get("tokenizer.ggml.merges")).toContain("Ġ the");
    expect(metadata.get("tokenizer.ggml.eos_token_id")).toBe(2049);
    const path = join(root, "demo.gguf");
    convertToGguf(DEMO_MODEL, path, "f16");
    // Its merges are pairs.
    expect(readGguf(path).metadata.get("tokenizer.ggml.merges")).toContain("Ġth e");
    expect(statSync(path).size).toBeGreaterThan(16e6);
  });
});

describe("tensors", () => {
  test("of Llama: all of them, no output, its rotary factors", () => {
    const file = converted("llama", "f32");
    const layer = "attn_k attn_norm attn_output attn_q attn_v ffn_down ffn_gate ffn_norm ffn_up".split(" ");
    const layers = [0, 1].flatMap((index) => layer.map((name) => `blk.${index}.${name}.weight`));
    expect([...file.tensors.keys()].sort()).toEqual([
      ...layers,
      "output_norm.weight",
      "rope_freqs.weight",
      "token_embd.weight",
    ]);
    expect(tensor(file, "blk.1.ffn_down.weight").shape).toEqual([128, 96]);
    expect(tensor(file, "blk.1.ffn_down.weight").values).toEqual(
      stored("llama", "model.layers.1.mlp.down_proj.weight"),
    );
    expect(tensor(file, "output_norm.weight").values).toEqual(stored("llama", "model.norm.weight"));
    expect(tensor(file, "token_embd.weight").values).toEqual(stored("llama", "model.embed_tokens.weight"));
    const factors = tensor(file, "rope_freqs.weight").values;
    // Turns of up to 8192 / 4 positions stay, those of more than 8192 are divided by 32.
    expect([factors[0], factors.at(-1)]).toEqual([1, 32]);
    expect([...factors]).toEqual([...factors].sort((a, b) => a - b));
  });

  test("of Qwen3: rows as they are, norms of heads", () => {
    const file = converted("qwen3", "f32");
    expect(tensor(file, "blk.0.attn_q.weight").values).toEqual(
      stored("qwen3", "model.layers.0.self_attn.q_proj.weight"),
    );
    expect(tensor(file, "blk.1.attn_k_norm.weight").values).toEqual(
      stored("qwen3", "model.layers.1.self_attn.k_norm.weight"),
    );
    expect(file.tensors.has("rope_freqs.weight")).toBe(false);
  });

  test("of Llama: neighbours turned as llama.cpp does give the scores that turned halves give", () => {
    const file = converted("llama", "f32");
    const [headDim, hidden] = [64, 128];
    const input = Float64Array.from({ length: hidden }, (_, index) => Math.sin(index + 1));
    const head = (values: Float64Array, index: number): Float64Array =>
      Float64Array.from({ length: headDim }, (_, row) =>
        input.reduce((sum, x, col) => sum + x * (values[(index * headDim + row) * hidden + col] ?? 0), 0),
      );
    const angle = (pair: number, position: number): number => position * 10000 ** ((-2 * pair) / headDim);
    const turn = (row: Float64Array, position: number, pairOf: (pair: number) => [number, number]): Float64Array => {
      const turned = row.slice();
      for (let pair = 0; pair < headDim / 2; pair++) {
        const [first, second] = pairOf(pair);
        const [a = 0, b = 0] = [row[first], row[second]];
        const [cos, sin] = [Math.cos(angle(pair, position)), Math.sin(angle(pair, position))];
        turned[first] = a * cos - b * sin;
        turned[second] = b * cos + a * sin;
      }
      return turned;
    };
    const neighbours = (pair: number): [number, number] => [2 * pair, 2 * pair + 1];
    const halves = (pair: number): [number, number] => [pair, pair + headDim / 2];
    const score = (query: Float64Array, key: Float64Array, pairs: typeof halves): number =>
      turn(query, 5, pairs).reduce((sum, value, index) => sum + value * (turn(key, 2, pairs)[index] ?? 0), 0);
    const [q, k] = [tensor(file, "blk.0.attn_q.weight").values, tensor(file, "blk.0.attn_k.weight").values];
    const ownQ = stored("llama", "model.layers.0.self_attn.q_proj.weight");
    const ownK = stored("llama", "model.layers.0.self_attn.k_proj.weight");
    for (const [queryHead, keyHead] of [
      [0, 0],
      [3, 0],
      [7, 1],
    ] as const) {
      const theirs = score(head(q, queryHead), head(k, keyHead), neighbours);
      const ours = score(head(ownQ, queryHead), head(ownK, keyHead), halves);
      expect(Math.abs(theirs - ours)).toBeLessThan(1e-9);
      // Without the permutation the scores are others.
      expect(Math.abs(score(head(ownQ, queryHead), head(ownK, keyHead), neighbours) - ours)).toBeGreaterThan(1e-3);
    }
  });

  test.each([
    // bf16 as stored is kept; f16 has more bits of a number of this size.
    ["bf16", 30, 0],
    ["f16", 1, 2 ** -24],
    // Half a step of the largest of 32: weights are below 1.
    ["q8_0", 8, 0.5 / 127 + 1e-3],
  ] as const)("in %s are what was stored, as far as it can say", (type, typeId, most) => {
    for (const model of ["llama", "qwen3"] as const) {
      const file = converted(model, type);
      const found = tensor(file, "blk.1.ffn_up.weight");
      expect(found.typeId).toBe(typeId);
      const wanted = stored(model, "model.layers.1.mlp.up_proj.weight");
      expect(found.values.length).toBe(wanted.length);
      const worst = wanted.reduce((worst, value, at) => Math.max(worst, Math.abs(value - (found.values[at] ?? 9))), 0);
      expect(worst).toBeLessThanOrEqual(most);
      // Vectors stay in f32.
      expect(tensor(file, "blk.1.ffn_norm.weight").typeId).toBe(0);
    }
  });
});

test("models that are not written here are refused", () => {
  for (const [architecture, config] of [
    ["Qwen2ForCausalLM", {}],
    ["LlamaForCausalLM", { attention_bias: true }],
    ["LlamaForCausalLM", { rope_scaling: { type: "linear", factor: 2 } }],
  ] as const) {
    const folder = join(root, "refused");
    writeRandomCheckpoint(folder, architecture, config);
    expect(() => convertToGguf(folder, join(root, "refused.gguf"), "f32")).toThrow("to write as GGUF");
  }
});
