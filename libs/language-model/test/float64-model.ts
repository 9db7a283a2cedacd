// The forward pass in plain float64 TypeScript, on one thread, with no KV cache: what the ranks' results are held to.
// It reads config.json and the tensors by their Hugging Face names, and shares no code with the library. Weights are
// read a few rows at a time, so that a checkpoint of any size takes little memory.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { StoredTensors } from "./stored-tensors.ts";

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

/** What is left of the key (after its rotation) or value of one token and KV head once it has been stored. */
type Stored = (row: Float64Array) => Float64Array;

/** Logits [vocabulary] of the token that follows `ids`, by a model folder's config and weights. */
export function float64Logits(folder: string, ids: readonly number[], stored?: Stored): Float64Array {
  const [logits] = logitsOf(folder, ids, stored, ids.length - 1);
  if (logits === undefined) throw new Error("no tokens");
  return logits;
}

/** As {@link float64Logits}, but for every token of `ids` the logits of the one that follows it. */
export function float64LogitsOfEach(folder: string, ids: readonly number[], stored?: Stored): Float64Array[] {
  return logitsOf(folder, ids, stored, 0);
}

function logitsOf(
  folder: string,
  ids: readonly number[],
  stored: Stored = (row) => row,
  firstWanted: number,
): Float64Array[] {
  const config: HuggingFaceConfig = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
  using tensors = new StoredTensors(folder);
  const { hidden_size: hiddenSize, num_attention_heads: queryHeads, num_key_value_heads: kvHeads } = config;
  const headDim = config.head_dim ?? hiddenSize / queryHeads;
  const epsilon = config.rms_norm_eps;
  const turns = rotaryTurns(config, headDim);
  const vector = (name: string): Float64Array => tensors.rows(name, 0, 1);
  const normed = (rows: readonly Float64Array[], name: string): Float64Array[] => {
    const weight = vector(name);
    return rows.map((row) => rmsNorm(row, weight, epsilon));
  };
  const hidden = ids.map((id) => tensors.rows(EMBEDDING, id, 1));
  for (let index = 0; index < config.num_hidden_layers; index++) {
    const layer = `model.layers.${index}`;
    const project = (name: string, rows: readonly Float64Array[]): Float64Array[] => {
      const bias = `${layer}.self_attn.${name}.bias`;
      const results = times(tensors, `${layer}.self_attn.${name}.weight`, rows);
      if (tensors.has(bias)) for (const row of results) add(row, vector(bias));
      return results;
    };
    const turned = (rows: readonly Float64Array[], name: string): Float64Array[] => {
      const weight = `${layer}.self_attn.${name}.weight`;
      const headNorm = tensors.has(weight) ? vector(weight) : undefined;
      return rows.map((row, position) => {
        if (headNorm !== undefined) {
          for (let head = 0; head < row.length; head += headDim) {
            row.set(rmsNorm(row.slice(head, head + headDim), headNorm, epsilon), head);
          }
        }
        return rotate(row, position, headDim, turns);
      });
    };
    const kept = (row: Float64Array): Float64Array => {
      for (let head = 0; head < row.length; head += headDim) row.set(stored(row.slice(head, head + headDim)), head);
      return row;
    };
    const input = normed(hidden, `${layer}.input_layernorm.weight`);
    const queries = turned(project("q_proj", input), "q_norm");
    const keys = turned(project("k_proj", input), "k_norm").map(kept);
    const values = project("v_proj", input).map(kept);
    const group = queryHeads / kvHeads;
    const first = (position: number): number => Math.max(0, position + 1 - windowOf(config, index));
    const attended = queries.map((row, position) => {
      const out = new Float64Array(queryHeads * headDim);
      const seen = [first(position), position + 1] as const;
      for (let head = 0; head < queryHeads; head++) {
        const kv = Math.floor(head / group) * headDim;
        attend(row, keys.slice(...seen), values.slice(...seen), head * headDim, kv, headDim, out);
      }
      return out;
    });
    addEach(hidden, project("o_proj", attended));
    const between = normed(hidden, `${layer}.post_attention_layernorm.weight`);
    const mlp = (name: string, rows: readonly Float64Array[]): Float64Array[] =>
      times(tensors, `${layer}.mlp.${name}_proj.weight`, rows);
    const lifted = mlp("up", between);
    const activated = mlp("gate", between).map((row, token) =>
      row.map((gate, column) => (gate / (1 + Math.exp(-gate))) * (lifted[token]?.[column] ?? 0)),
    );
    addEach(hidden, mlp("down", activated));
  }
  const output = config.tie_word_embeddings === true ? EMBEDDING : "lm_head.weight";
  return times(tensors, output, normed(hidden.slice(firstWanted), "model.norm.weight"));
}

const EMBEDDING = "model.embed_tokens.weight";

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

/** Elements of a weight that are read at a time. */
const BLOCK = 1 << 20;

/** The product of a weight with each of some vectors. */
function times(tensors: StoredTensors, name: string, vectors: readonly Float64Array[]): Float64Array[] {
  const { rows, cols } = tensors.sizeOf(name);
  const results = vectors.map(() => new Float64Array(rows));
  const most = Math.max(1, Math.floor(BLOCK / cols));
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const block = tensors.rows(name, first, count);
    for (const [index, vector] of vectors.entries()) {
      const result = results[index] ?? new Float64Array();
      for (let row = 0; row < count; row++) result[first + row] = dot(block, row * cols, vector);
    }
  }
  return results;
}

/** Four sums, since a processor adds to one only every few cycles. */
function dot(block: Float64Array, start: number, vector: Float64Array): number {
  let [a, b, c, d] = [0, 0, 0, 0];
  const { length } = vector;
  let col = 0;
  for (; col + 3 < length; col += 4) {
    a += (block[start + col] ?? 0) * (vector[col] ?? 0);
    b += (block[start + col + 1] ?? 0) * (vector[col + 1] ?? 0);
    c += (block[start + col + 2] ?? 0) * (vector[col + 2] ?? 0);
    d += (block[start + col + 3] ?? 0) * (vector[col + 3] ?? 0);
  }
  for (; col < length; col++) a += (block[start + col] ?? 0) * (vector[col] ?? 0);
  return a + b + c + d;
}

function rmsNorm(row: Float64Array, weight: Float64Array, epsilon: number): Float64Array {
  const scale = 1 / Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / row.length + epsilon);
  return row.map((value, index) => value * scale * (weight[index] ?? 0));
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

function add(row: Float64Array, other: Float64Array): void {
  for (let index = 0; index < other.length; index++) row[index] = (row[index] ?? 0) + (other[index] ?? 0);
}

function addEach(rows: readonly Float64Array[], others: readonly Float64Array[]): void {
  for (const [index, row] of rows.entries()) add(row, others[index] ?? new Float64Array());
}
