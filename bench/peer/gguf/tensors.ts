// The tensors of a model folder under llama.cpp's names, with rows where llama.cpp wants them.
import type { ModelConfig } from "@lockstep/language-model";
import type { StoredTensors } from "../../../libs/language-model/test/stored-tensors.ts";
import type { ElementType } from "./element-types.ts";
import { architectureName } from "./metadata.ts";
import type { GgufTensor } from "./write-gguf.ts";

/** Elements that are read and written at a time. */
const PIECE = 1 << 20;

/** Every tensor of a model: matrices in `type`, vectors in f32, as llama.cpp wants them. */
export function* ggufTensors(
  stored: StoredTensors,
  config: ModelConfig,
  type: ElementType,
): Generator<GgufTensor, void> {
  const isPermuted = architectureName(config) === "llama";
  const matrix = (name: string, from: string): GgufTensor => {
    const { rows, cols } = stored.sizeOf(from);
    return { name, shape: [rows, cols], type, elements: () => rowPieces(stored, from) };
  };
  const rotated = (name: string, from: string, heads: number): GgufTensor => ({
    ...matrix(name, from),
    elements: () => (isPermuted ? permutedHeads(stored, from, heads) : rowPieces(stored, from)),
  });
  const vector = (name: string, from: string): GgufTensor => ({
    name,
    shape: [stored.sizeOf(from).cols],
    type: "f32",
    elements: () => rowPieces(stored, from),
  });
  yield matrix("token_embd.weight", "model.embed_tokens.weight");
  yield vector("output_norm.weight", "model.norm.weight");
  if (!config.tiedEmbeddings) yield matrix("output.weight", "lm_head.weight");
  const factors = ropeFactors(config);
  if (factors !== undefined) {
    yield { name: "rope_freqs.weight", shape: [factors.length], type: "f32", elements: () => [factors] };
  }
  for (let index = 0; index < config.layers; index++) {
    const [to, from] = [`blk.${index}`, `model.layers.${index}`];
    yield vector(`${to}.attn_norm.weight`, `${from}.input_layernorm.weight`);
    yield rotated(`${to}.attn_q.weight`, `${from}.self_attn.q_proj.weight`, config.queryHeads);
    yield rotated(`${to}.attn_k.weight`, `${from}.self_attn.k_proj.weight`, config.kvHeads);
    yield matrix(`${to}.attn_v.weight`, `${from}.self_attn.v_proj.weight`);
    yield matrix(`${to}.attn_output.weight`, `${from}.self_attn.o_proj.weight`);
    if (config.queryKeyNorm) {
      yield vector(`${to}.attn_q_norm.weight`, `${from}.self_attn.q_norm.weight`);
      yield vector(`${to}.attn_k_norm.weight`, `${from}.self_attn.k_norm.weight`);
    }
    yield vector(`${to}.ffn_norm.weight`, `${from}.post_attention_layernorm.weight`);
    yield matrix(`${to}.ffn_gate.weight`, `${from}.mlp.gate_proj.weight`);
    yield matrix(`${to}.ffn_up.weight`, `${from}.mlp.up_proj.weight`);
    yield matrix(`${to}.ffn_down.weight`, `${from}.mlp.down_proj.weight`);
  }
}

function* rowPieces(stored: StoredTensors, name: string): Generator<Float32Array, void> {
  const { rows, cols } = stored.sizeOf(name);
  const most = Math.max(1, Math.floor(PIECE / cols));
  for (let first = 0; first < rows; first += most) {
    yield new Float32Array(stored.rows(name, first, Math.min(most, rows - first)));
  }
}

/**
 * Head by head, rows of the two halves in turn: llama.cpp's `llama` turns neighbours (2i, 2i + 1), where Hugging
 * Face's turns (i, i + half).
 */
function* permutedHeads(stored: StoredTensors, name: string, heads: number): Generator<Float32Array, void> {
  const { rows, cols } = stored.sizeOf(name);
  const headDim = rows / heads;
  for (let head = 0; head < heads; head++) {
    const from = stored.rows(name, head * headDim, headDim);
    const to = new Float32Array(from.length);
    for (let row = 0; row < headDim; row++) {
      const source = (row % 2) * (headDim / 2) + Math.floor(row / 2);
      to.set(from.subarray(source * cols, (source + 1) * cols), row * cols);
    }
    yield to;
  }
}

/** What llama.cpp divides each rotary frequency by, for Llama 3's scaling; undefined without one. */
function ropeFactors({ ropeScaling: scaling, ropeTheta, headDim }: ModelConfig): Float32Array | undefined {
  if (scaling?.type !== "llama3") return undefined;
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalPositions } = scaling;
  return Float32Array.from({ length: headDim / 2 }, (_, pair) => {
    const wavelength = 2 * Math.PI * ropeTheta ** ((2 * pair) / headDim);
    if (wavelength < originalPositions / high) return 1;
    if (wavelength > originalPositions / low) return factor;
    const smooth = (originalPositions / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}
