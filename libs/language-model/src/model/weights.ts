import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { Checkpoint } from "./checkpoint.ts";
import type { ModelConfig } from "./config.ts";
import type { Layers } from "../layers/layers.ts";
import { lengthOf, type Range, type RankShare } from "./tensor-parallel.ts";

/** One rank's weights of one layer, f32. H hidden size; row counts are this rank's share. */
export interface LayerWeights {
  /** [H] */
  readonly attentionNorm: Tensor;
  /** [query heads * D, H] */
  readonly query: Tensor;
  /** [KV heads * D, H] */
  readonly key: Tensor;
  /** [KV heads * D, H] */
  readonly value: Tensor;
  /** [H, query heads * D] */
  readonly attentionOutput: Tensor;
  /** [1, query heads * D], [1, KV heads * D] twice, [1, H]; undefined where the model has none. */
  readonly queryBias: Tensor | undefined;
  readonly keyBias: Tensor | undefined;
  readonly valueBias: Tensor | undefined;
  readonly attentionOutputBias: Tensor | undefined;
  /** [1, D] each; undefined where the model has none. */
  readonly queryNorm: Tensor | undefined;
  readonly keyNorm: Tensor | undefined;
  /** [H] */
  readonly mlpNorm: Tensor;
  /** [intermediate, H] */
  readonly gate: Tensor;
  /** [intermediate, H] */
  readonly up: Tensor;
  /** [H, intermediate] */
  readonly down: Tensor;
}

/** One rank's weights, f32. */
export interface ModelWeights {
  /** [vocabulary rows, H] */
  readonly embedding: Tensor;
  readonly layers: readonly LayerWeights[];
  /** [H] */
  readonly finalNorm: Tensor;
  /** [vocabulary rows, H]; the same tensor as `embedding` when they are tied. */
  readonly output: Tensor;
}

/** Reads a rank's share of a checkpoint into its heap, one tensor at a time. */
export function loadWeights(
  checkpoint: Checkpoint,
  config: ModelConfig,
  share: RankShare,
  layers: Layers,
  heap: SharedHeap,
): ModelWeights {
  const { architecture } = checkpoint;
  const heads = (range: Range): Range => ({ start: range.start * config.headDim, end: range.end * config.headDim });
  const load = (name: string, rows?: Range, columns?: Range): Tensor => {
    using stored = new Temporary(checkpoint.fileOf(name).read(name, heap));
    let part = stored.tensor;
    if (part.rank === 1) part = part.unsqueeze(0);
    if (rows !== undefined) part = part.slice(0, rows.start, rows.end);
    if (columns !== undefined) part = part.slice(1, columns.start, columns.end);
    const wide = Tensor.empty(heap, "f32", part.shape);
    layers.widen(part, wide);
    return wide;
  };
  const hasBias = config.attentionBias !== "none";
  const loadIf = (has: boolean, name: string, columns?: Range): Tensor | undefined =>
    has ? load(name, undefined, columns) : undefined;
  const embedding = load(architecture.embedding, share.vocabulary);
  return {
    embedding,
    layers: Array.from({ length: config.layers }, (_, index) => {
      const names = architecture.layer(index);
      return {
        attentionNorm: load(names.attentionNorm),
        query: load(names.query, heads(share.queryHeads)),
        key: load(names.key, heads(share.kvHeads)),
        value: load(names.value, heads(share.kvHeads)),
        attentionOutput: load(names.attentionOutput, undefined, heads(share.queryHeads)),
        queryBias: loadIf(hasBias, names.queryBias, heads(share.queryHeads)),
        keyBias: loadIf(hasBias, names.keyBias, heads(share.kvHeads)),
        valueBias: loadIf(hasBias, names.valueBias, heads(share.kvHeads)),
        attentionOutputBias: loadIf(config.attentionBias === "qkvo", names.attentionOutputBias),
        queryNorm: loadIf(config.queryKeyNorm, names.queryNorm),
        keyNorm: loadIf(config.queryKeyNorm, names.keyNorm),
        mlpNorm: load(names.mlpNorm),
        gate: load(names.gate, share.intermediate),
        up: load(names.up, share.intermediate),
        down: load(names.down, undefined, share.intermediate),
      };
    }),
    finalNorm: load(architecture.finalNorm),
    output: config.tiedEmbeddings ? embedding : load(architecture.output, share.vocabulary),
  };
}

/** Bytes of the f32 weights a rank keeps. */
export function weightBytes(config: ModelConfig, share: RankShare): number {
  const { hiddenSize, headDim, layers, tiedEmbeddings } = config;
  const attention = 2 * (lengthOf(share.queryHeads) + lengthOf(share.kvHeads)) * headDim * hiddenSize;
  const bias =
    (config.attentionBias === "none" ? 0 : (lengthOf(share.queryHeads) + 2 * lengthOf(share.kvHeads)) * headDim) +
    (config.attentionBias === "qkvo" ? hiddenSize : 0);
  const norms = 2 * hiddenSize + (config.queryKeyNorm ? 2 * headDim : 0);
  const mlp = 3 * lengthOf(share.intermediate) * hiddenSize;
  const vocabulary = lengthOf(share.vocabulary) * hiddenSize * (tiedEmbeddings ? 1 : 2);
  return 4 * (layers * (attention + bias + mlp + norms) + vocabulary + hiddenSize);
}

/** Frees a tensor at the end of its block. */
class Temporary implements Disposable {
  readonly tensor: Tensor;

  constructor(tensor: Tensor) {
    this.tensor = tensor;
  }

  [Symbol.dispose](): void {
    this.tensor.free();
  }
}
