// The forward pass in plain float64 TypeScript, on one thread, with nothing cached: what the ranks' results are held to.
import { elementCount, SharedHeap } from "@lockstep/tensor";
import { Checkpoint } from "../src/checkpoint.ts";
import type { ModelConfig } from "../src/config.ts";

interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float64Array;
}

/** Logits [vocabulary] of the token that follows `ids`, by a model folder's weights. */
export function float64Logits(folder: string, config: ModelConfig, ids: readonly number[]): Float64Array {
  using checkpoint = Checkpoint.open(folder, config);
  const { architecture } = checkpoint;
  const heap = SharedHeap.create(checkpoint.largestTensorBytes + 1024);
  const load = (name: string): Matrix => {
    const tensor = checkpoint.fileOf(name).read(name, heap);
    const data = tensor.toNumbers();
    const cols = tensor.shape.at(-1) ?? 1;
    tensor.free();
    return { rows: elementCount(tensor.shape) / cols, cols, data };
  };
  const { headDim, hiddenSize, queryHeads, kvHeads } = config;
  const embedding = load(architecture.embedding);
  const hidden = ids.map((id) => embedding.data.slice(id * hiddenSize, (id + 1) * hiddenSize));
  for (let index = 0; index < config.layers; index++) {
    const names = architecture.layer(index);
    const norm = load(names.attentionNorm);
    const normed = hidden.map((row) => rmsNorm(row, norm, config.normEpsilon));
    const [query, key, value] = [load(names.query), load(names.key), load(names.value)];
    const queries = normed.map((row, position) => rotate(times(query, row), position, headDim, config.ropeTheta));
    const keys = normed.map((row, position) => rotate(times(key, row), position, headDim, config.ropeTheta));
    const values = normed.map((row) => times(value, row));
    const output = load(names.attentionOutput);
    const group = queryHeads / kvHeads;
    for (const [position, row] of queries.entries()) {
      const attended = new Float64Array(queryHeads * headDim);
      for (let head = 0; head < queryHeads; head++) {
        const kv = Math.floor(head / group) * headDim;
        attend(row, keys, values, position, head * headDim, kv, headDim, attended);
      }
      add(hidden[position] ?? [], times(output, attended));
    }
    const mlpNorm = load(names.mlpNorm);
    const [gate, up, down] = [load(names.gate), load(names.up), load(names.down)];
    for (const row of hidden) {
      const input = rmsNorm(row, mlpNorm, config.normEpsilon);
      const lifted = times(up, input);
      const activated = times(gate, input).map((g, column) => (g / (1 + Math.exp(-g))) * (lifted[column] ?? 0));
      add(row, times(down, activated));
    }
  }
  const last = rmsNorm(hidden.at(-1) ?? new Float64Array(), load(architecture.finalNorm), config.normEpsilon);
  return times(config.tiedEmbeddings ? embedding : load(architecture.output), last);
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
function rotate(row: Float64Array, position: number, headDim: number, theta: number): Float64Array {
  const half = headDim / 2;
  const turned = row.slice();
  for (let head = 0; head < row.length; head += headDim) {
    for (let index = 0; index < half; index++) {
      const angle = position * theta ** (-index / half);
      const [a = 0, b = 0] = [row[head + index], row[head + half + index]];
      turned[head + index] = a * Math.cos(angle) - b * Math.sin(angle);
      turned[head + half + index] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
  return turned;
}

/** Causal attention of one head at one position, written to `out` from `head` on. */
function attend(
  query: Float64Array,
  keys: readonly Float64Array[],
  values: readonly Float64Array[],
  position: number,
  head: number,
  kv: number,
  headDim: number,
  out: Float64Array,
): void {
  const scores = keys.slice(0, position + 1).map((key) => {
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
