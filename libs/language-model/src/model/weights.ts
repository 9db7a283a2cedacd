import type { SharedHeap, Tensor } from "@lockstep/tensor";
import type { Layers } from "../layers/layers.ts";
import type { Weight, WeightKind } from "../layers/weight.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { ModelConfig } from "./config.ts";
import type { RankShare } from "./tensor-parallel.ts";
import { loadingScratchBytes } from "./weight-bytes.ts";
import { type LayerLayout, type ModelLayout, mapLayout } from "./weight-layout.ts";
import { WeightLoader } from "./weight-loader.ts";
import { weightParts } from "./weight-parts.ts";

/** One rank's weights of one layer: matrices as they are kept, norms and biases in f32. */
export type LayerWeights = LayerLayout<Weight, Tensor>;

/** One rank's weights. */
export interface ModelWeights extends ModelLayout<Weight, Tensor> {
  /** The same matrix as `embedding` when they are tied. */
  readonly output: Weight;
}

/** How weights are kept. */
export interface LoadOptions {
  /** Matrices in the dtype they are stored in, or in int8 with a scale for every 32 elements of a row. */
  readonly weights: WeightKind;
  /** Told, again and again, the bytes of weights that are in place. */
  readonly onBytes?: (bytes: number) => void;
}

/**
 * Reads a rank's share of a checkpoint straight into a heap, which keeps `weightBytes`; besides it takes
 * `loadingScratchBytes` (at most 1 MiB, or a row), and gives them back.
 *
 * In int8 the groups of a row count from the first column that the rank keeps: from that of the whole row wherever it
 * is a multiple of 32, as with the MLP's columns ({@link RankShare}) and with heads of 32 or 64 or 128.
 * @throws HeapExhausted; SafetensorsError when a file cannot be read; ModelError, which names the tensor, for a NaN or
 *   an infinity that is to be kept in int8. Nothing is left in the heap then.
 */
export function loadWeights(
  checkpoint: Checkpoint,
  config: ModelConfig,
  share: RankShare,
  layers: Layers,
  heap: SharedHeap,
  { weights: kind, onBytes }: LoadOptions,
): ModelWeights {
  const scratchBytes = loadingScratchBytes(checkpoint.storedDTypes, config, share, kind);
  using loader = new WeightLoader({ checkpoint, layers, heap, kind, scratchBytes, onBytes });
  const loaded = mapLayout(
    weightParts(checkpoint.architecture, config, share),
    (part) => loader.matrix(part),
    (part) => loader.vector(part),
  );
  loader.keep();
  return { ...loaded, output: loaded.output ?? loaded.embedding };
}
