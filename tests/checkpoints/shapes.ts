// config.json of the models whose shapes the random checkpoints have, and of small ones that are built alike.

/** What config.json says, as far as tensors follow from it. */
export interface ShapeConfig {
  readonly architectures: readonly ["LlamaForCausalLM" | "Qwen3ForCausalLM"];
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly vocab_size: number;
  readonly tie_word_embeddings: true;
  readonly max_position_embeddings: number;
  readonly bos_token_id: number;
  readonly eos_token_id: number;
  readonly [field: string]: unknown;
}

/** As meta-llama/Llama-3.2-1B publishes it: 1,235,814,400 weights. */
const LLAMA_3_2_1B: ShapeConfig = {
  architectures: ["LlamaForCausalLM"],
  attention_bias: false,
  attention_dropout: 0,
  bos_token_id: 128000,
  eos_token_id: 128001,
  head_dim: 64,
  hidden_act: "silu",
  hidden_size: 2048,
  initializer_range: 0.02,
  intermediate_size: 8192,
  max_position_embeddings: 131072,
  mlp_bias: false,
  model_type: "llama",
  num_attention_heads: 32,
  num_hidden_layers: 16,
  num_key_value_heads: 8,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor: 32,
    high_freq_factor: 4,
    low_freq_factor: 1,
    original_max_position_embeddings: 8192,
    rope_type: "llama3",
  },
  rope_theta: 500000,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
  transformers_version: "4.45.0.dev0",
  use_cache: true,
  vocab_size: 128256,
};

/** As Qwen/Qwen3-0.6B publishes it: 596,049,920 weights. */
const QWEN3_0_6B: ShapeConfig = {
  architectures: ["Qwen3ForCausalLM"],
  attention_bias: false,
  attention_dropout: 0,
  bos_token_id: 151643,
  eos_token_id: 151645,
  head_dim: 128,
  hidden_act: "silu",
  hidden_size: 1024,
  initializer_range: 0.02,
  intermediate_size: 3072,
  max_position_embeddings: 40960,
  max_window_layers: 28,
  model_type: "qwen3",
  num_attention_heads: 16,
  num_hidden_layers: 28,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-6,
  rope_scaling: null,
  rope_theta: 1000000,
  sliding_window: null,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
  transformers_version: "4.51.0",
  use_cache: true,
  use_sliding_window: false,
  vocab_size: 151936,
};

/** Shapes by name. The small ones keep head dims, ratios of heads and all that is particular to the architecture. */
export const SHAPES = {
  "llama-3.2-1b": LLAMA_3_2_1B,
  "qwen3-0.6b": QWEN3_0_6B,
  "llama-small": {
    ...LLAMA_3_2_1B,
    hidden_size: 512,
    intermediate_size: 1024,
    num_attention_heads: 8,
    num_hidden_layers: 3,
    num_key_value_heads: 2,
    vocab_size: 2051,
    bos_token_id: 2048,
    eos_token_id: 2049,
  },
  "qwen3-small": {
    ...QWEN3_0_6B,
    hidden_size: 256,
    intermediate_size: 768,
    num_attention_heads: 4,
    num_hidden_layers: 3,
    num_key_value_heads: 2,
    vocab_size: 2053,
    bos_token_id: 2048,
    eos_token_id: 2049,
  },
} as const satisfies Readonly<Record<string, ShapeConfig>>;

export type ShapeName = keyof typeof SHAPES;

export function isShapeName(name: string | undefined): name is ShapeName {
  return name !== undefined && Object.hasOwn(SHAPES, name);
}

/** How a tensor's values are drawn: normal around `mean`. */
export interface TensorShape {
  readonly name: string;
  readonly shape: readonly number[];
  readonly mean: number;
  readonly deviation: number;
}

/** Every tensor of a model, in the order in which they are stored. */
export function* tensorShapes(config: ShapeConfig): Generator<TensorShape, void> {
  const { hidden_size: hidden, intermediate_size: columns, head_dim: headDim } = config;
  const [queryRows, kvRows] = [config.num_attention_heads * headDim, config.num_key_value_heads * headDim];
  // Outputs of about the size of the inputs, so that logits of any depth stay near 1.
  const matrix = (name: string, rows: number, cols: number): TensorShape => ({
    name: `${name}.weight`,
    shape: [rows, cols],
    mean: 0,
    deviation: 1 / Math.sqrt(cols),
  });
  const norm = (name: string, size: number): TensorShape => ({
    name: `${name}.weight`,
    shape: [size],
    mean: 1,
    deviation: 0.1,
  });
  yield matrix("model.embed_tokens", config.vocab_size, hidden);
  for (let index = 0; index < config.num_hidden_layers; index++) {
    const layer = `model.layers.${index}`;
    yield norm(`${layer}.input_layernorm`, hidden);
    yield matrix(`${layer}.mlp.down_proj`, hidden, columns);
    yield matrix(`${layer}.mlp.gate_proj`, columns, hidden);
    yield matrix(`${layer}.mlp.up_proj`, columns, hidden);
    yield norm(`${layer}.post_attention_layernorm`, hidden);
    if (config.architectures[0] === "Qwen3ForCausalLM") {
      yield norm(`${layer}.self_attn.k_norm`, headDim);
      yield norm(`${layer}.self_attn.q_norm`, headDim);
    }
    yield matrix(`${layer}.self_attn.k_proj`, kvRows, hidden);
    yield matrix(`${layer}.self_attn.o_proj`, hidden, queryRows);
    yield matrix(`${layer}.self_attn.q_proj`, queryRows, hidden);
    yield matrix(`${layer}.self_attn.v_proj`, kvRows, hidden);
  }
  yield norm("model.norm", hidden);
}
