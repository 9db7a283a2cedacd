import { DTYPE_BYTES } from "@lockstep/tensor";
import type { ModelConfig } from "../model/config.ts";
import { UnfitOptions } from "../errors.ts";
import { isQuantisedKv, type KvDtype } from "./kv-calibration.ts";
import { lengthOf, type ParallelSizes, rankShare } from "../model/tensor-parallel.ts";
import { activationBytes } from "../model/transformer.ts";
import { quantisedInputBytes } from "../layers/quantised-inputs.ts";
import type { WeightKind } from "../layers/weight.ts";
import type { StoredDTypes } from "../model/stored-dtypes.ts";
import { loadingScratchBytes, weightBytes } from "../model/weight-bytes.ts";
import { widestInput } from "../model/weight-parts.ts";

const MEBI = 1 << 20;
/** A WebAssembly memory's limit. */
const MEMORY_BYTES = 65535 * 65536;
/** Room for alignment, block tables, the kernels' scratch and what is small. */
const SLACK_BYTES = 16 * MEBI;

/** The host's own heap, and what the groups keep. */
const HOST_BYTES = 64 * MEBI;

/** What the memory plan depends on besides the model. */
export interface CacheShape {
  readonly sizes: ParallelSizes;
  readonly kvDtype: KvDtype;
  readonly blockSize: number;
  /** Most tokens of one text. */
  readonly capacity: number;
  /** Texts at a time. */
  readonly texts: number;
  /** Tokens that are cached in f32 at first, to find static scales of a quantised cache; 0 without. */
  readonly calibrationTokens: number;
  /** Tokens of the context that prefill gathers at a time; 0 without prefill. */
  readonly prefillChunk: number;
  readonly maxStepTokens: number;
  readonly maxLogitRows: number;
  readonly weights: WeightKind;
}

/**
 * KV blocks each rank needs for texts of `capacity` tokens: a block on each of `dcp` ranks covers dcp * blockSize
 * positions of one text.
 */
export function blocksPerRank({ capacity, texts, blockSize, sizes }: Omit<CacheShape, "kvDtype">): number {
  return texts * Math.max(1, Math.ceil(capacity / (blockSize * sizes.dcp)));
}

/** KV blocks each rank needs for a sample of so many tokens. */
export function calibrationBlocks(tokens: number, blockSize: number, dcp: number): number {
  return Math.ceil(tokens / (blockSize * dcp));
}

/**
 * Bytes of heap each rank needs for its weights, KV shard, activations and scratch.
 * @param stored dtypes of the checkpoint's tensors
 * Throws {@link UnfitOptions} when the ranks together would exceed what one shared memory holds.
 */
export function heapBytesPerRank(config: ModelConfig, stored: StoredDTypes, cache: CacheShape): number {
  const { sizes, maxStepTokens, maxLogitRows } = cache;
  let most = 0;
  for (let rank = 0; rank < sizes.world; rank++) {
    const share = rankShare(sizes, rank, config);
    const rowBytes = 2 * lengthOf(share.kvHeads) * config.headDim;
    // A scale for each key and value in f32, unless a sample decides static ones.
    const scaleBytes = isQuantisedKv(cache.kvDtype) && cache.calibrationTokens === 0 ? 8 * lengthOf(share.kvHeads) : 0;
    const cacheBytes = (blocks: number, bytes: number, scales = 0): number =>
      config.layers * blocks * cache.blockSize * (rowBytes * bytes + scales);
    const sample = calibrationBlocks(cache.calibrationTokens, cache.blockSize, sizes.dcp);
    const kv = Math.max(
      cacheBytes(blocksPerRank(cache), DTYPE_BYTES[cache.kvDtype], scaleBytes),
      cacheBytes(sample, 4),
    );
    // The workspace, this rank's rows of a chunk, and three states of its own heads.
    const chunkRows = cache.prefillChunk === 0 ? 0 : cache.prefillChunk + cache.blockSize;
    const ownStates = 3 * 4 * maxStepTokens * lengthOf(share.queryHeads) * (config.headDim + 1);
    const prefill = chunkRows === 0 ? 0 : 2 * chunkRows * (rowBytes * 4 + scaleBytes) + ownStates;
    // Gathered query, partial outputs and LSE of every rank of the group, received copies of them, and their merge.
    const heads = lengthOf(share.groupQueryHeads);
    const scratch = 8 * 4 * maxStepTokens * heads * (config.headDim + 1) * (1 + 1 / sizes.dcp);
    const activations = activationBytes(config, share, maxStepTokens, maxLogitRows);
    const room = { maxTokens: maxStepTokens, maxInputs: widestInput(config, share) };
    const quantised = cache.weights === "i8" ? quantisedInputBytes(room) : 0;
    const weights =
      weightBytes(stored, config, share, cache.weights) + loadingScratchBytes(stored, config, share, cache.weights);
    most = Math.max(most, weights + quantised + kv + prefill + scratch + activations);
  }
  const bytes = Math.ceil((most + SLACK_BYTES) / MEBI) * MEBI;
  if (bytes * sizes.world + HOST_BYTES > MEMORY_BYTES) {
    const needed = Math.ceil((bytes * sizes.world) / MEBI);
    throw new UnfitOptions(
      `the model and its KV cache need ${needed} MiB on ${sizes.world} ranks, beyond the ` +
        `${Math.floor(MEMORY_BYTES / MEBI)} MiB one shared memory holds: take a smaller model or a shorter text.`,
    );
  }
  return bytes;
}
