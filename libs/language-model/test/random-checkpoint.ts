// Tiny checkpoints of random weights in Hugging Face format.
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DType, SharedHeap, Tensor, writeSafetensors } from "@lockstep/tensor";
import { MODEL_FOLDER } from "./shipped-folder.ts";

/** The shipped tokenizer's 4096 tokens and a few that pad the table, as published checkpoints have. */
const VOCABULARY = 4099;

const SIZES = {
  hidden_size: 24,
  intermediate_size: 37,
  num_hidden_layers: 3,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  vocab_size: VOCABULARY,
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  max_position_embeddings: 64,
};

/** What a checkpoint is made of besides its config. */
export interface CheckpointForm {
  readonly dtype?: DType;
  /** Several files and an index instead of one file. */
  readonly isSharded?: boolean;
  /** A value that takes the place of one of a tensor's, of its first unless `index` says which. */
  readonly damage?: { readonly name: string; readonly value: number; readonly index?: number };
}

/** Writes a checkpoint of an architecture; `config` replaces values of config.json. */
export function writeRandomCheckpoint(
  folder: string,
  architecture: string,
  config: Readonly<Record<string, unknown>>,
  { dtype = "f32", isSharded = false, damage }: CheckpointForm = {},
): void {
  mkdirSync(folder, { recursive: true });
  const json: Readonly<Record<string, unknown>> & typeof SIZES = {
    architectures: [architecture],
    ...SIZES,
    ...config,
  };
  writeFileSync(join(folder, "config.json"), JSON.stringify(json));
  cpSync(join(MODEL_FOLDER, "tokenizer.json"), join(folder, "tokenizer.json"));
  const heap = SharedHeap.create(16 << 20);
  const next = random(architecture.length);
  const tensors: [string, Tensor][] = [...shapesOf(architecture, json)].map(([name, shape]) => {
    const [spread, centre] = name.includes("norm") ? [0.5, 1] : name.includes("embed") ? [1, 0] : [0.4, 0];
    const length = shape.reduce((product, size) => product * size, 1);
    return [
      name,
      Tensor.from(
        heap,
        dtype,
        shape,
        Float64Array.from({ length }, (_, index) => {
          const value = centre + spread * next();
          return index === (damage?.index ?? 0) && damage?.name === name ? damage.value : value;
        }),
      ),
    ];
  });
  if (!isSharded) {
    writeSafetensors(join(folder, "model.safetensors"), new Map(tensors));
    return;
  }
  const weight_map: Record<string, string> = {};
  for (const part of [0, 1, 2]) {
    const file = `model-0000${part + 1}-of-00003.safetensors`;
    const own = tensors.filter((_, index) => index % 3 === part);
    writeSafetensors(join(folder, file), new Map(own));
    for (const [name] of own) weight_map[name] = file;
  }
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ metadata: {}, weight_map }));
}

function shapesOf(architecture: string, json: Readonly<Record<string, unknown>> & typeof SIZES) {
  const headDim = Number(json.head_dim ?? json.hidden_size / json.num_attention_heads);
  const [hidden, columns] = [json.hidden_size, json.intermediate_size];
  const [queryRows, kvRows] = [json.num_attention_heads * headDim, json.num_key_value_heads * headDim];
  const shapes = new Map<string, number[]>();
  shapes.set("model.embed_tokens.weight", [VOCABULARY, hidden]);
  shapes.set("model.norm.weight", [hidden]);
  if (json.tie_word_embeddings !== true) shapes.set("lm_head.weight", [VOCABULARY, hidden]);
  for (let index = 0; index < json.num_hidden_layers; index++) {
    const layer = (name: string, shape: number[]): unknown => shapes.set(`model.layers.${index}.${name}`, shape);
    for (const [name, rows, cols] of [
      ["q", queryRows, hidden],
      ["k", kvRows, hidden],
      ["v", kvRows, hidden],
      ["o", hidden, queryRows],
    ] as const) {
      layer(`self_attn.${name}_proj.weight`, [rows, cols]);
      const hasBias = json.attention_bias === true || (architecture === "Qwen2ForCausalLM" && name !== "o");
      if (hasBias) layer(`self_attn.${name}_proj.bias`, [rows]);
    }
    if (architecture === "Qwen3ForCausalLM") {
      layer("self_attn.q_norm.weight", [headDim]);
      layer("self_attn.k_norm.weight", [headDim]);
    }
    layer("input_layernorm.weight", [hidden]);
    layer("post_attention_layernorm.weight", [hidden]);
    layer("mlp.gate_proj.weight", [columns, hidden]);
    layer("mlp.up_proj.weight", [columns, hidden]);
    layer("mlp.down_proj.weight", [hidden, columns]);
  }
  return shapes;
}

/** Numbers in (-1, 1), the same for the same seed. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}
