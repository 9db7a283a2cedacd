/** Names of a layer's tensors in the checkpoint. Which of the optional ones a model has, its config says. */
export interface LayerTensorNames {
  readonly attentionNorm: string;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly attentionOutput: string;
  readonly queryBias: string;
  readonly keyBias: string;
  readonly valueBias: string;
  readonly attentionOutputBias: string;
  /** RMS normalisation of every head's query and key. */
  readonly queryNorm: string;
  readonly keyNorm: string;
  readonly mlpNorm: string;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

/**
 * Which projections of a layer's attention have a bias: none, those of queries, keys and values, or the output's as
 * well.
 */
export type AttentionBias = "none" | "qkv" | "qkvo";

/** Defaults of a configuration class of transformers; docs/loading.md names their sources. */
export interface ClassDefaults {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  /** null: as many as num_attention_heads, as where config.json says null. */
  readonly num_key_value_heads: number | null;
  /** null: hidden_size / num_attention_heads, rounded down. */
  readonly head_dim: number | null;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly sliding_window: number | null;
  readonly eos_token_id: number | null;
}

const LLAMA_DEFAULTS: ClassDefaults = {
  vocab_size: 32000,
  hidden_size: 4096,
  intermediate_size: 11008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: null,
  head_dim: null,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-6,
  sliding_window: null,
  eos_token_id: 2,
};

const MISTRAL_DEFAULTS: ClassDefaults = {
  ...LLAMA_DEFAULTS,
  intermediate_size: 14336,
  num_key_value_heads: 8,
  max_position_embeddings: 131072,
  sliding_window: 4096,
};

const QWEN2_DEFAULTS: ClassDefaults = {
  ...LLAMA_DEFAULTS,
  vocab_size: 151936,
  intermediate_size: 22016,
  num_key_value_heads: 32,
  max_position_embeddings: 32768,
  sliding_window: 4096,
  eos_token_id: null,
};

/** What tells one model family from another. */
export interface Architecture {
  /** Its name in `architectures` of config.json. */
  readonly name: string;
  /** Its attention bias; `configured`: all four projections have one where config.json sets `attention_bias`. */
  readonly attentionBias: "none" | "qkv" | "configured";
  /** Queries and keys are normalised head by head before they are rotated. */
  readonly queryKeyNorm: boolean;
  /**
   * Where sliding windows come from. `all-layers`: `sliding_window` holds for every layer. `upper-layers`: it holds
   * from layer `max_window_layers` on, where `use_sliding_window` is set, or for the layers that `layer_types` names.
   */
  readonly slidingWindow: "none" | "all-layers" | "upper-layers";
  /** What the family's own configuration class takes for keys that config.json leaves out. */
  readonly defaults: ClassDefaults;
  readonly embedding: string;
  readonly finalNorm: string;
  /** The output projection, absent from checkpoints with tied embeddings. */
  readonly output: string;
  layer(index: number): LayerTensorNames;
}

/** Tensor names that all these families share. */
const TENSOR_NAMES = {
  embedding: "model.embed_tokens.weight",
  finalNorm: "model.norm.weight",
  output: "lm_head.weight",
  layer(index: number): LayerTensorNames {
    const prefix = `model.layers.${index}`;
    return {
      attentionNorm: `${prefix}.input_layernorm.weight`,
      query: `${prefix}.self_attn.q_proj.weight`,
      key: `${prefix}.self_attn.k_proj.weight`,
      value: `${prefix}.self_attn.v_proj.weight`,
      attentionOutput: `${prefix}.self_attn.o_proj.weight`,
      queryBias: `${prefix}.self_attn.q_proj.bias`,
      keyBias: `${prefix}.self_attn.k_proj.bias`,
      valueBias: `${prefix}.self_attn.v_proj.bias`,
      attentionOutputBias: `${prefix}.self_attn.o_proj.bias`,
      queryNorm: `${prefix}.self_attn.q_norm.weight`,
      keyNorm: `${prefix}.self_attn.k_norm.weight`,
      mlpNorm: `${prefix}.post_attention_layernorm.weight`,
      gate: `${prefix}.mlp.gate_proj.weight`,
      up: `${prefix}.mlp.up_proj.weight`,
      down: `${prefix}.mlp.down_proj.weight`,
    };
  },
} as const;

/** Every architecture this library runs. */
const ARCHITECTURES: readonly Architecture[] = [
  {
    ...TENSOR_NAMES,
    name: "LlamaForCausalLM",
    attentionBias: "configured",
    queryKeyNorm: false,
    slidingWindow: "none",
    defaults: LLAMA_DEFAULTS,
  },
  {
    ...TENSOR_NAMES,
    name: "MistralForCausalLM",
    attentionBias: "none",
    queryKeyNorm: false,
    slidingWindow: "all-layers",
    defaults: MISTRAL_DEFAULTS,
  },
  {
    ...TENSOR_NAMES,
    name: "Qwen2ForCausalLM",
    attentionBias: "qkv",
    queryKeyNorm: false,
    slidingWindow: "upper-layers",
    defaults: QWEN2_DEFAULTS,
  },
  {
    ...TENSOR_NAMES,
    name: "Qwen3ForCausalLM",
    attentionBias: "configured",
    queryKeyNorm: true,
    slidingWindow: "upper-layers",
    defaults: { ...QWEN2_DEFAULTS, head_dim: 128 },
  },
];

export const ARCHITECTURE_NAMES: readonly string[] = ARCHITECTURES.map(({ name }) => name);

/** The architecture of that name, if this library runs it. */
export function findArchitecture(name: string): Architecture | undefined {
  return ARCHITECTURES.find((architecture) => architecture.name === name);
}
