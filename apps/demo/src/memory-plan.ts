import { DTYPE_BYTES } from "@lockstep/tensor";
import type { ModelConfig } from "./config.ts";
import { UsageError } from "./errors.ts";
import { lengthOf, type ParallelSizes, rankShare } from "./tensor-parallel.ts";
import { activationBytes } from "./transformer.ts";
import { weightBytes } from "./weights.ts";

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
  readonly kvDtype: "f32" | "f16" | "bf16";
  readonly blockSize: number;
  /** Most tokens of one text. */
  readonly capacity: number;
  readonly maxStepTokens: number;
  readonly maxLogitRows: number;
}

/** KV blocks each rank needs for `capacity` tokens: a block on each of `dcp` ranks covers dcp * blockSize positions. */
export function blocksPerRank({ capacity, blockSize, sizes }: CacheShape): number {
  return Math.max(1, Math.ceil(capacity / (blockSize * sizes.dcp)));
}

/**
 * Bytes of heap each rank needs for its weights, KV shard, activations and scratch.
 * Throws {@link UsageError} when the ranks together would exceed what one shared memory holds.
 */
export function heapBytesPerRank(config: ModelConfig, largestTensorBytes: number, cache: CacheShape): number {
  const { sizes, maxStepTokens, maxLogitRows } = cache;
  let most = 0;
  for (let rank = 0; rank < sizes.world; rank++) {
    const share = rankShare(sizes, rank, config);
    const rows = blocksPerRank(cache) * cache.blockSize * lengthOf(share.kvHeads);
    const kv = 2 * config.layers * rows * config.headDim * DTYPE_BYTES[cache.kvDtype];
    // Gathered query, partial outputs and LSE of every rank of the group, received copies of them, and their merge.
    const heads = lengthOf(share.groupQueryHeads);
    const scratch = 8 * 4 * maxStepTokens * heads * (config.headDim + 1) * (1 + 1 / sizes.dcp);
    const activations = activationBytes(config, share, maxStepTokens, maxLogitRows);
    most = Math.max(most, weightBytes(config, share) + kv + scratch + activations);
  }
  const bytes = Math.ceil((most + largestTensorBytes + SLACK_BYTES) / MEBI) * MEBI;
  if (bytes * sizes.world + HOST_BYTES > MEMORY_BYTES) {
    const needed = Math.ceil((bytes * sizes.world) / MEBI);
    throw new UsageError(
      `the model and its KV cache need ${needed} MiB on ${sizes.world} ranks, beyond the ` +
        `${Math.floor(MEMORY_BYTES / MEBI)} MiB one shared memory holds: take a smaller model or a shorter text.`,
    );
  }
  return bytes;
}
