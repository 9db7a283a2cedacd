/** Names of a layer's tensors in the checkpoint. */
export interface LayerTensorNames {
  readonly attentionNorm: string;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly attentionOutput: string;
  readonly mlpNorm: string;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

/** What tells one model family from another. */
export interface Architecture {
  /** Its name in `architectures` of config.json. */
  readonly name: string;
  readonly embedding: string;
  readonly finalNorm: string;
  /** The output projection, absent from checkpoints with tied embeddings. */
  readonly output: string;
  layer(index: number): LayerTensorNames;
}

/** Every architecture this app runs. */
const ARCHITECTURES: readonly Architecture[] = [
  {
    name: "LlamaForCausalLM",
    embedding: "model.embed_tokens.weight",
    finalNorm: "model.norm.weight",
    output: "lm_head.weight",
    layer(index) {
      const prefix = `model.layers.${index}`;
      return {
        attentionNorm: `${prefix}.input_layernorm.weight`,
        query: `${prefix}.self_attn.q_proj.weight`,
        key: `${prefix}.self_attn.k_proj.weight`,
        value: `${prefix}.self_attn.v_proj.weight`,
        attentionOutput: `${prefix}.self_attn.o_proj.weight`,
        mlpNorm: `${prefix}.post_attention_layernorm.weight`,
        gate: `${prefix}.mlp.gate_proj.weight`,
        up: `${prefix}.mlp.up_proj.weight`,
        down: `${prefix}.mlp.down_proj.weight`,
      };
    },
  },
];

export const ARCHITECTURE_NAMES: readonly string[] = ARCHITECTURES.map(({ name }) => name);

/** The architecture of that name, if this app runs it. */
export function findArchitecture(name: string): Architecture | undefined {
  return ARCHITECTURES.find((architecture) => architecture.name === name);
}
