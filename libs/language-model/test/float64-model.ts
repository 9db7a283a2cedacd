// The forward pass in plain float64 TypeScript, on one thread, with nothing cached: what the ranks' results are held
// to. It reads config.json and the tensors by their Hugging Face names, and shares no code with the library.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { elementCount, SafetensorsFile, SharedHeap } from "@lockstep/tensor";

interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float64Array;
}

/** What a float64 pass reads of config.json. */
interface HuggingFaceConfig {
  readonly architectures: readonly string[];
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim?: number;
  readonly rms_norm_eps: number;
  readonly tie_word_embeddings?: boolean;
  readonly rope_theta?: number;
  readonly rope_scaling?: Readonly<Record<string, number | string>>;
  readonly rope_parameters?: Readonly<Record<string, number | string>>;
  readonly sliding_window?: number | null;
  readonly use_sliding_window?: boolean;
  readonly max_window_layers?: number;
}

/**
 * Logits [vocabulary] of the token that follows `ids`, by a model folder's config and weights.
 * @param stored what is left of the key (after its rotation) or value of one token and KV head once it has been stored
 */
export function float64Logits(
  folder: string,
  ids: readonly number[],
  stored: (row: Float64Array) => Float64Array = (row) => row,
): Float64Array {
  const config: HuggingFaceConfig = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
  const heap = SharedHeap.create(64 << 20);
  const tensors = new Map<string, Matrix>();
  for (const name of readdirSync(folder).filter((file) => file.endsWith(".safetensors"))) {
    const file = SafetensorsFile.open(join(folder, name));
    for (const key of file.names) {
      const tensor = file.read(key, heap);
      const cols = tensor.shape.at(-1) ?? 1;
      tensors.set(key, { rows: elementCount(tensor.shape) / cols, cols, data: tensor.toNumbers() });
      tensor.free();
    }
    file.close();
  }
  const load = (name: string): Matrix => {
    const found = tensors.get(name);
    if (found === undefined) throw new Error(`no tensor ${name}`);
    return found;
  };
  const { hidden_size: hiddenSize, num_attention_heads: queryHeads, num_key_value_heads: kvHeads } = config;
  const headDim = config.head_dim ?? hiddenSize / queryHeads;
  const epsilon = config.rms_norm_eps;
  const turns = rotaryTurns(config, headDim);
  const embedding = load("model.embed_tokens.weight");
  const hidden = ids.map((id) => embedding.data.slice(id * hiddenSize, (id + 1) * hiddenSize));
  for (let index = 0; index < config.num_hidden_layers; index++) {
    const layer = `model.layers.${index}`;
    const norm = load(`${layer}.input_layernorm.weight`);
    const normed = hidden.map((row) => rmsNorm(row, norm, epsilon));
    const project = (name: string): Float64Array[] => {
      const weight = load(`${layer}.self_attn.${name}.weight`);
      const bias = tensors.get(`${layer}.self_attn.${name}.bias`);
      return normed.map((row) => plus(times(weight, row), bias));
    };
    const turned = (rows: Float64Array[], name: string): Float64Array[] => {
      const headNorm = tensors.get(`${layer}.self_attn.${name}.weight`);
      return rows.map((row, position) => {
        if (headNorm !== undefined) {
          for (let head = 0; head < row.length; head += headDim) {
            row.set(rmsNorm(row.slice(head, head + headDim), headNorm, epsilon), head);
          }
        }
        return rotate(row, position, headDim, turns);
      });
    };
    const queries = turned(project("q_proj"), "q_norm");
    const kept = (row: Float64Array): Float64Array => {
      for (let head = 0; head < row.length; head += headDim) row.set(stored(row.slice(head, head + headDim)), head);
      return row;
    };
    const keys = turned(project("k_proj"), "k_norm").map(kept);
    const values = project("v_proj").map(kept);
    const output = load(`${layer}.self_attn.o_proj.weight`);
    const outputBias = tensors.get(`${layer}.self_attn.o_proj.bias`);
    const group = queryHeads / kvHeads;
    const first = (position: number): number => Math.max(0, position + 1 - windowOf(config, index));
    for (const [position, row] of queries.entries()) {
      const attended = new Float64Array(queryHeads * headDim);
      for (let head = 0; head < queryHeads; head++) {
        const kv = Math.floor(head / group) * headDim;
        const seen = [first(position), position + 1] as const;
        attend(row, keys.slice(...seen), values.slice(...seen), head * headDim, kv, headDim, attended);
      }
      add(hidden[position] ?? [], plus(times(output, attended), outputBias));
    }
    const mlpNorm = load(`${layer}.post_attention_layernorm.weight`);
    const [gate, up, down] = ["gate", "up", "down"].map((name) => load(`${layer}.mlp.${name}_proj.weight`));
    if (gate === undefined || up === undefined || down === undefined) throw new Error("no MLP");
    for (const row of hidden) {
      const input = rmsNorm(row, mlpNorm, epsilon);
      const lifted = times(up, input);
      const activated = times(gate, input).map((g, column) => (g / (1 + Math.exp(-g))) * (lifted[column] ?? 0));
      add(row, times(down, activated));
    }
  }
  const last = rmsNorm(hidden.at(-1) ?? new Float64Array(), load("model.norm.weight"), epsilon);
  return times(config.tie_word_embeddings === true ? embedding : load("lm_head.weight"), last);
}

function windowOf(config: HuggingFaceConfig, layer: number): number {
  const { architectures, sliding_window: window, use_sliding_window: isUsed, max_window_layers: full = 28 } = config;
  if (architectures[0] === "MistralForCausalLM") return window ?? Number.POSITIVE_INFINITY;
  return isUsed === true && layer >= full ? (window ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY;
}

interface RotaryTurns {
  readonly frequencies: readonly number[];
  readonly amplitude: number;
}

/** Frequencies of the rotary embedding: plain, linear, Llama 3 or YaRN, after the papers. */
function rotaryTurns(config: HuggingFaceConfig, dim: number): RotaryTurns {
  const scaling = config.rope_parameters ?? config.rope_scaling ?? {};
  const theta = Number(config.rope_parameters?.rope_theta ?? config.rope_theta ?? 10000);
  const plain = Array.from({ length: dim / 2 }, (_, pair) => theta ** ((-2 * pair) / dim));
  const factor = Number(scaling.factor);
  const original = Number(scaling.original_max_position_embeddings);
  switch (scaling.rope_type ?? scaling.type) {
    case "linear":
      return { frequencies: plain.map((frequency) => frequency / factor), amplitude: 1 };
    case "llama3": {
      const [low, high] = [Number(scaling.low_freq_factor), Number(scaling.high_freq_factor)];
      const frequencies = plain.map((frequency) => {
        const wavelength = (2 * Math.PI) / frequency;
        if (wavelength < original / high) return frequency;
        if (wavelength > original / low) return frequency / factor;
        const smooth = (original / wavelength - low) / (high - low);
        return ((1 - smooth) * frequency) / factor + smooth * frequency;
      });
      return { frequencies, amplitude: 1 };
    }
    case "yarn": {
      const pair = (rotations: number): number =>
        (dim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
      const low = Math.max(Math.floor(pair(32)), 0);
      const high = Math.min(Math.ceil(pair(1)), dim - 1);
      const frequencies = plain.map((frequency, index) => {
        const ramp = Math.min(1, Math.max(0, (index - low) / (high === low ? 0.001 : high - low)));
        return (frequency / factor) * ramp + frequency * (1 - ramp);
      });
      return { frequencies, amplitude: 0.1 * Math.log(factor) + 1 };
    }
    default:
      return { frequencies: plain, amplitude: 1 };
  }
}

/** Natural logarithms of the probabilities that logits stand for. */
export function logProbabilities(logits: ArrayLike<number>): Float64Array {
  const values = Float64Array.from(logits);
  const most = values.reduce((best, value) => Math.max(best, value), Number.NEGATIVE_INFINITY);
  const total = Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
  return values.map((value) => value - most - total);
}

function times(matrix: Matrix, vector: ArrayLike<number>): Float64Array {
  const result = new Float64Array(matrix.rows);
  for (let row = 0; row < matrix.rows; row++) {
    let sum = 0;
    for (let col = 0; col < matrix.cols; col++) sum += (matrix.data[row * matrix.cols + col] ?? 0) * (vector[col] ?? 0);
    result[row] = sum;
  }
  return result;
}

function rmsNorm(row: Float64Array, weight: Matrix, epsilon: number): Float64Array {
  const scale = 1 / Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / row.length + epsilon);
  return row.map((value, index) => value * scale * (weight.data[index] ?? 0));
}

/** Every head of a row turned for its position, the `rotate_half` way. */
function rotate(row: Float64Array, position: number, headDim: number, turns: RotaryTurns): Float64Array {
  const half = headDim / 2;
  const turned = row.slice();
  for (let head = 0; head < row.length; head += headDim) {
    for (let index = 0; index < half; index++) {
      const angle = position * (turns.frequencies[index] ?? 0);
      const [a = 0, b = 0] = [row[head + index], row[head + half + index]];
      turned[head + index] = turns.amplitude * (a * Math.cos(angle) - b * Math.sin(angle));
      turned[head + half + index] = turns.amplitude * (b * Math.cos(angle) + a * Math.sin(angle));
    }
  }
  return turned;
}

/** Attention of one head at one position over what it sees, written to `out` from `head` on. */
function attend(
  query: Float64Array,
  keys: readonly Float64Array[],
  values: readonly Float64Array[],
  head: number,
  kv: number,
  headDim: number,
  out: Float64Array,
): void {
  const scores = keys.map((key) => {
    let dot = 0;
    for (let index = 0; index < headDim; index++) dot += (query[head + index] ?? 0) * (key[kv + index] ?? 0);
    return dot / Math.sqrt(headDim);
  });
  const most = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - most));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  for (const [token, weight] of weights.entries()) {
    for (let index = 0; index < headDim; index++) {
      out[head + index] = (out[head + index] ?? 0) + (weight / total) * (values[token]?.[kv + index] ?? 0);
    }
  }
}

function add(row: Float64Array | never[], other: Float64Array): void {
  for (let index = 0; index < other.length; index++) row[index] = (row[index] ?? 0) + (other[index] ?? 0);
}

function plus(row: Float64Array, bias: Matrix | undefined): Float64Array {
  if (bias !== undefined) add(row, bias.data);
  return row;
}
