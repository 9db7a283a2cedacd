// What a GGUF file says of a model besides its weights: sizes and the tokenizer.
import { join } from "node:path";
import type { ModelConfig } from "@lockstep/language-model";
import { isJsonObject, type JsonObject, readJsonObject } from "@lockstep/language-model/json-file";
import { type ElementType, FILE_TYPES } from "./element-types.ts";
import type { MetadataValue } from "./write-gguf.ts";

/** llama.cpp's name of an architecture. @throws Error for one that is not written here, or a variant of it */
export function architectureName({ architecture, attentionBias, windows, ropeScaling }: ModelConfig): string {
  const names: Readonly<Record<string, string>> = { LlamaForCausalLM: "llama", Qwen3ForCausalLM: "qwen3" };
  const name = names[architecture];
  if (name === undefined) throw new Error(`expected Llama or Qwen3 to write as GGUF, but the model is ${architecture}`);
  const isPlain = attentionBias === "none" && windows.every((window) => window === null);
  const isScaled = ropeScaling !== undefined && ropeScaling.type !== "llama3";
  if (isPlain && !isScaled) return name;
  throw new Error("expected a model without biases, windows and rotary scaling other than Llama 3's to write as GGUF");
}

/** All metadata of a model folder whose matrices are written in a type. */
export function ggufMetadata(folder: string, config: ModelConfig, type: ElementType): Map<string, MetadataValue> {
  const name = architectureName(config);
  const metadata = new Map<string, MetadataValue>();
  const u32 = (key: string, value: number): unknown => metadata.set(key, { type: "u32", value });
  const f32 = (key: string, value: number): unknown => metadata.set(key, { type: "f32", value });
  const string = (key: string, value: string): unknown => metadata.set(key, { type: "string", value });
  string("general.architecture", name);
  string("general.name", "checkpoint");
  u32("general.file_type", FILE_TYPES[type]);
  u32("general.quantization_version", 2);
  u32(`${name}.block_count`, config.layers);
  u32(`${name}.context_length`, config.maxPositions);
  u32(`${name}.embedding_length`, config.hiddenSize);
  u32(`${name}.feed_forward_length`, config.intermediateSize);
  u32(`${name}.attention.head_count`, config.queryHeads);
  u32(`${name}.attention.head_count_kv`, config.kvHeads);
  u32(`${name}.attention.key_length`, config.headDim);
  u32(`${name}.attention.value_length`, config.headDim);
  f32(`${name}.attention.layer_norm_rms_epsilon`, config.normEpsilon);
  u32(`${name}.rope.dimension_count`, config.headDim);
  f32(`${name}.rope.freq_base`, config.ropeTheta);
  u32(`${name}.vocab_size`, config.vocabularySize);
  addTokenizer(metadata, join(folder, "tokenizer.json"), config);
  return metadata;
}

const NORMAL = 1;
const CONTROL = 3;
const UNUSED = 5;

/**
 * A byte-level BPE. Texts are split as GPT-2's are, which need not be how the model's own tokenizer splits them:
 * prompts are given as token ids.
 */
function addTokenizer(metadata: Map<string, MetadataValue>, path: string, config: ModelConfig): void {
  const { model, added_tokens: added } = readJsonObject(path);
  if (!isJsonObject(model) || model.type !== "BPE" || !isJsonObject(model.vocab) || !Array.isArray(model.merges)) {
    throw new Error(`expected a BPE in ${path} to write as GGUF`);
  }
  const tokens = Array.from({ length: config.vocabularySize }, (_, id) => `[PAD${id}]`);
  const types = tokens.map(() => UNUSED);
  const set = (id: unknown, text: unknown, type: number): void => {
    if (typeof id !== "number" || typeof text !== "string" || id >= tokens.length) return;
    tokens[id] = text;
    types[id] = type;
  };
  for (const [text, id] of Object.entries(model.vocab)) set(id, text, NORMAL);
  for (const token of Array.isArray(added) ? added : []) {
    if (isJsonObject(token)) set(token.id, token.content, CONTROL);
  }
  metadata.set("tokenizer.ggml.model", { type: "string", value: "gpt2" });
  metadata.set("tokenizer.ggml.pre", { type: "string", value: "gpt-2" });
  metadata.set("tokenizer.ggml.tokens", { type: "strings", value: tokens });
  metadata.set("tokenizer.ggml.token_type", { type: "i32s", value: types });
  metadata.set("tokenizer.ggml.merges", { type: "strings", value: mergesOf(model) });
  const [end] = config.endTokens;
  if (end !== undefined) {
    metadata.set("tokenizer.ggml.eos_token_id", { type: "u32", value: end });
    metadata.set("tokenizer.ggml.bos_token_id", { type: "u32", value: end });
  }
  metadata.set("tokenizer.ggml.add_bos_token", { type: "bool", value: false });
}

/** Merges as "a b", which tokenizer.json has as texts or as pairs. */
function mergesOf({ merges }: JsonObject): string[] {
  const all: readonly unknown[] = Array.isArray(merges) ? merges : [];
  return all.map((merge) => (Array.isArray(merge) ? merge.join(" ") : String(merge)));
}
