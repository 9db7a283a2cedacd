// How many blocks a KV cache has, and what each rank stores of them.
import { DTYPE_BYTES } from "@lockstep/tensor";
import type { ModelConfig } from "../model/config.ts";
import { lengthOf, type ParallelSizes, rankShare } from "../model/tensor-parallel.ts";
import { isQuantisedKv, type KvDtype } from "./kv-calibration.ts";
import { weightOf, weightSum } from "./kv-shares.ts";

/** What decides the size of a KV cache besides the model. */
export interface KvCacheShape {
  readonly sizes: ParallelSizes;
  readonly kvDtype: KvDtype;
  /** Shares of the ranks of a DCP group. Left out: equal ones. */
  readonly kvWeights?: readonly number[] | undefined;
  /** Tokens of a block on a rank of weight 1. */
  readonly blockSize: number;
  /** Most tokens of one text. */
  readonly capacity: number;
  /** Texts at a time. */
  readonly texts: number;
  /** Tokens that the cache holds over all texts. Left out: as many as all of them may have. */
  readonly kvTokens?: number | undefined;
  /** Tokens that are cached in f32 at first, to find static scales of a quantised cache; 0 without. */
  readonly calibrationTokens: number;
}

/**
 * KV blocks for texts of `capacity` tokens: a block covers {@link blockTokens} positions of one text, and each of `dcp`
 * ranks stores its share of them.
 */
export function blocksPerRank(
  cache: Pick<KvCacheShape, "capacity" | "texts" | "kvTokens" | "blockSize" | "sizes" | "kvWeights">,
): number {
  const { capacity, texts, kvTokens } = cache;
  const blocks = (tokens: number): number => Math.max(1, Math.ceil(tokens / blockTokens(cache)));
  return kvTokens === undefined ? texts * blocks(capacity) : Math.max(blocks(capacity), blocks(kvTokens));
}

/** Tokens of a block over all ranks of a DCP group. */
export function blockTokens({
  blockSize,
  sizes,
  kvWeights,
}: Pick<KvCacheShape, "blockSize" | "sizes" | "kvWeights">): number {
  return blockSize * weightSum(kvWeights, sizes.dcp);
}

/** Bytes of a block on a rank of weight 1, of those that store the most KV heads. */
export function kvBlockBytes(config: ModelConfig, cache: RowShape & Pick<KvCacheShape, "blockSize">): number {
  const ranks = Array.from({ length: cache.sizes.world }, (_, rank) => kvRowBytes(config, cache, rank));
  return config.layers * cache.blockSize * Math.max(...ranks);
}

/** Bytes of a token's keys and values of one layer on a rank that stores them. */
function kvRowBytes(config: ModelConfig, cache: RowShape, rank: number): number {
  const kvHeads = lengthOf(rankShare(cache.sizes, rank, config).kvHeads);
  return 2 * kvHeads * config.headDim * DTYPE_BYTES[cache.kvDtype] + kvScaleBytes(cache, kvHeads);
}

type RowShape = Pick<KvCacheShape, "sizes" | "kvDtype" | "calibrationTokens">;

/** Bytes of the scales of a token's keys and values of one layer: f32, unless a sample decides static ones. */
export function kvScaleBytes(
  { kvDtype, calibrationTokens }: Pick<KvCacheShape, "kvDtype" | "calibrationTokens">,
  kvHeads: number,
): number {
  return isQuantisedKv(kvDtype) && calibrationTokens === 0 ? 8 * kvHeads : 0;
}

/** KV blocks each rank needs for a sample of so many tokens. */
export function calibrationBlocks(tokens: number, blockSize: number, dcp: number): number {
  return Math.ceil(tokens / (blockSize * dcp));
}

/** Bytes of a rank's keys and values: its share of all blocks. */
export function blocksBytes(config: ModelConfig, cache: KvCacheShape, rank: number): number {
  const rows = blocksPerRank(cache) * cache.blockSize * weightOf(cache.kvWeights, rank, cache.sizes.dcp);
  return config.layers * rows * kvRowBytes(config, cache, rank);
}

/**
 * Bytes of a rank's part of the sample that finds static scales before there is a cache: one that is larger than its
 * room does not fit where it was. All ranks store equal shares of it.
 */
export function sampleBytes(config: ModelConfig, cache: KvCacheShape, rank: number): number {
  const elements = 2 * lengthOf(rankShare(cache.sizes, rank, config).kvHeads) * config.headDim;
  const blocks = calibrationBlocks(cache.calibrationTokens, cache.blockSize, cache.sizes.dcp);
  return config.layers * blocks * cache.blockSize * elements * 4;
}
