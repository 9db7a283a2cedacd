// What each rank will hold, and in which memories.
import { placementOf, type WorldPlacement } from "@lockstep/dist-groups";
import { attentionTileKeys, gpuSumsBorder } from "@lockstep/kernels";
import { HEAP_LINE_BYTES } from "../layers/heap-line.ts";
import { linearScratchBytes } from "../layers/linear-scratch.ts";
import type { WeightKind } from "../layers/weight.ts";
import { activationBytes } from "../model/activations.ts";
import type { ModelConfig } from "../model/config.ts";
import { gatherBytes } from "../model/gathered-columns.ts";
import type { StoredDTypes } from "../model/stored-dtypes.ts";
import { lengthOf, rankShare } from "../model/tensor-parallel.ts";
import { loadingScratchBytes, weightBytes } from "../model/weight-bytes.ts";
import { widestInput } from "../model/weight-parts.ts";
import { samplerExchangeBytes, samplerOwnBytes } from "../sampling/sampler-memory.ts";
import { blocksBytes, blocksPerRank, type KvCacheShape, kvScaleBytes, sampleBytes } from "./kv-blocks.ts";
import { weightSum } from "./kv-shares.ts";

const MEBI = 1 << 20;
/** A WebAssembly memory's limit. */
export const MEMORY_BYTES = 65535 * 65536;
/** Room for alignment, block tables, the kernels' scratch and what is small, in each memory. */
const SLACK_BYTES = 16 * MEBI;
/** The host's own heap, and what the groups keep: at least. */
const HOST_BYTES = 64 * MEBI;
/** Steps the ranks make between two answers to the host, which reads their tokens as they come all the same. */
export const STEPS_PER_CALL = 32;

/** What the memory plan depends on besides the model. */
export interface CacheShape extends KvCacheShape {
  /** Bytes that each rank of a DCP group has for its keys and values. Left out: as much as is needed. */
  readonly kvBytes?: readonly number[] | undefined;
  /** Tokens of the context that a prefill gathers at a time, at least; 0 where none does. */
  readonly prefillChunk: number;
  readonly maxStepTokens: number;
  readonly maxLogitRows: number;
  /** Those of them whose tokens may be drawn by chance, or told with log-probabilities. */
  readonly maxWholeRows: number;
  readonly weights: WeightKind;
  /** Whether ranks reach a GPU through another one, where operands are copied to. */
  readonly isShared: boolean;
  /** Whether the KV cache lies on GPUs, whose memory is not counted here. */
  readonly isOnDevice: boolean;
}

/** Bytes that one rank holds. */
export interface RankMemory {
  /** Its share of the model's weights. */
  readonly weights: number;
  /** Keys and values of all layers, with their scales. */
  readonly kvCache: number;
  /** Activations, and scratch memory of attention. */
  readonly scratch: number;
  /** What its peers read: its part of the memory that all ranks share. */
  readonly exchange: number;
}

/**
 * Sizes of the memories that hold it. As few as will do: between memories operands are copied, and engines give only
 * the first few of a process the guard pages that spare kernels their bounds checks.
 */
export interface MemoryLayout {
  /** Of each rank's range of the memory that all ranks share. */
  readonly sharedBytes: number;
  /** Of a rank's own memory for weights and activations; 0 when the shared memory holds all of all ranks. */
  readonly ownBytes: number;
  /**
   * Of a rank's own memory for its KV cache; 0 when that lies where the weights lie. Of a cache that is meant for a
   * GPU: for ranks that find none.
   */
  readonly cacheBytes: number;
}

/** What each rank will hold, and whether it can. */
export interface RankMemoryPlan {
  readonly ranks: readonly RankMemory[];
  readonly layout: MemoryLayout;
  /** All of it. */
  readonly totalBytes: number;
  /** What does not fit; undefined when all does. */
  readonly problem: string | undefined;
}

/** Bytes of the host's heap, where ranks leave their tokens: at most `maxLogitRows` a step. */
export function hostHeapBytes(maxLogitRows: number): number {
  return MEBI + 8 * STEPS_PER_CALL * maxLogitRows;
}

/**
 * What each rank of a world would hold.
 * @param stored dtypes of the checkpoint's tensors
 * @param machineBytes memory that the machine has
 * @param placement where the ranks will run; the machines are taken to be alike
 */
export function planRanks(
  config: ModelConfig,
  stored: StoredDTypes,
  cache: CacheShape,
  machineBytes: number,
  placement: WorldPlacement = placementOf(cache.sizes.world),
): RankMemoryPlan {
  const ranks = Array.from({ length: cache.sizes.world }, (_, rank) => rankMemory(config, stored, cache, rank));
  const most = (bytes: (rank: RankMemory) => number): number => Math.max(...ranks.map(bytes));
  const hostBytes = hostHeapBytes(cache.maxLogitRows) + MEBI;
  const commonBytes = Math.max(HOST_BYTES, placement.controlBytes + hostBytes);
  const shared: SharedMemory = { commonBytes, ...placement, ranks: mostRanks(placement) };
  const layout = layOut(shared, (bytes) => inMebi(most(bytes) + SLACK_BYTES));
  const totalBytes =
    ranks.reduce((sum, rank) => sum + rank.weights + rank.kvCache + rank.scratch + rank.exchange, 0) + HOST_BYTES;
  const problem = shareProblem(config, cache) ?? problemOf(cache, shared, ranks, layout, totalBytes, machineBytes);
  return { ranks, layout, totalBytes, problem };
}

/** Size of a memory for a rank's KV cache alone. */
export function cacheMemoryBytes(ranks: readonly RankMemory[]): number {
  return inMebi(Math.max(...ranks.map(({ kvCache, scratch }) => kvCache + scratch)) + SLACK_BYTES);
}

/** The memory that the ranks of a process share. */
interface SharedMemory extends Pick<WorldPlacement, "processes" | "machines"> {
  /** Most ranks of one process. */
  readonly ranks: number;
  /** What it holds besides the ranks' ranges. */
  readonly commonBytes: number;
}

/** Most ranks of one process. */
export function mostRanks({ processes }: Pick<WorldPlacement, "processes">): number {
  return Math.max(...processes.map(({ length }) => length));
}

/** @param most bytes of the rank that has the most of something, and room for what is small */
function layOut(
  { ranks, processes, commonBytes }: SharedMemory,
  most: (bytes: (rank: RankMemory) => number) => number,
): MemoryLayout {
  const sharedBytes = most(({ exchange }) => exchange);
  const all = most(({ weights, kvCache, scratch, exchange }) => weights + kvCache + scratch + exchange);
  // What comes from ranks of other processes lands beside a rank's range: no more than it has for what it gives them.
  const landing = processes.length > 1 ? sharedBytes : 0;
  if ((all + landing) * ranks + commonBytes <= MEMORY_BYTES) return { sharedBytes: all, ownBytes: 0, cacheBytes: 0 };
  const together = most(({ weights, kvCache, scratch }) => weights + kvCache + scratch);
  if (together <= MEMORY_BYTES) return { sharedBytes, ownBytes: together, cacheBytes: 0 };
  return {
    sharedBytes,
    ownBytes: most(({ weights, scratch }) => weights + scratch),
    cacheBytes: most(({ kvCache, scratch }) => kvCache + scratch),
  };
}

/** Whose keys and values take more than it has for them; undefined when nobody's do. */
function shareProblem(config: ModelConfig, cache: CacheShape): string | undefined {
  const { sizes, kvBytes } = cache;
  if (kvBytes === undefined) return undefined;
  for (let rank = 0; rank < sizes.world; rank++) {
    const [taken, there] = [blocksBytes(config, cache, rank), kvBytes[rank % sizes.dcp] ?? 0];
    if (taken <= there) continue;
    const [most, room] = formatApart(taken, there);
    return `the KV cache takes ${most} of rank ${rank}, which has ${room} for it`;
  }
  return undefined;
}

function problemOf(
  { sizes }: CacheShape,
  { commonBytes, machines, ranks: ranksOfProcess }: SharedMemory,
  ranks: readonly RankMemory[],
  { sharedBytes, ownBytes, cacheBytes }: MemoryLayout,
  totalBytes: number,
  machineBytes: number,
): string | undefined {
  const { world } = sizes;
  const most = (bytes: (rank: RankMemory) => number): number => Math.max(...ranks.map(bytes));
  const each = world === 1 ? "one rank" : `each of ${world} ranks`;
  const beyondMemory = (what: string, bytes: number, all: number): string => {
    const [alone, limit] = [formatBytes(bytes), formatBytes(MEMORY_BYTES)];
    if (bytes > MEMORY_BYTES && alone !== limit) return `${what} ${alone} of ${each}, but a memory holds ${limit}`;
    const [together, room] = formatApart(all, MEMORY_BYTES);
    return `${what} ${alone} of ${each}, with its scratch memory ${together}, but a memory holds ${room}`;
  };
  if (cacheBytes > MEMORY_BYTES) {
    return beyondMemory(
      "the KV cache takes",
      most(({ kvCache }) => kvCache),
      cacheBytes,
    );
  }
  if (ownBytes > MEMORY_BYTES) {
    return beyondMemory(
      "the weights take",
      most(({ weights }) => weights),
      ownBytes,
    );
  }
  const shared = sharedBytes * ranksOfProcess + commonBytes;
  if (shared > MEMORY_BYTES) {
    const [exchanged, limit] = formatApart(shared, MEMORY_BYTES);
    return `${ranksOfProcess} ranks exchange ${exchanged} through one memory, which holds ${limit}`;
  }
  if (totalBytes <= machines * machineBytes) return undefined;
  const all = world === 1 ? "one rank takes" : `${world} ranks take`;
  const [taken, there] = formatApart(totalBytes, machines * machineBytes);
  return `${all} ${taken}, but ${machines === 1 ? "this machine has" : `${machines} machines like this one have`} ${there}`;
}

function rankMemory(config: ModelConfig, stored: StoredDTypes, cache: CacheShape, rank: number): RankMemory {
  const { sizes, maxStepTokens, maxLogitRows, maxWholeRows, prefillChunk } = cache;
  const share = rankShare(sizes, rank, config);
  const kvHeads = lengthOf(share.kvHeads);
  const rowElements = 2 * kvHeads * config.headDim;
  const scaleBytes = kvScaleBytes(cache, kvHeads);
  const chunkRows = prefillChunk === 0 || sizes.dcp === 1 ? 0 : prefillChunk + chunkRounding(config, cache);
  const groupRow = 4 * lengthOf(share.groupQueryHeads) * (config.headDim + 1);
  const ownRow = 4 * lengthOf(share.queryHeads) * (config.headDim + 1);
  const chunkBytes = chunkRows * (rowElements * 4 + scaleBytes);
  // The workspace of a prefill, copies of its rows on their way out and in, and of queries, partial results, keys and
  // values.
  const attention = 3 * chunkBytes + maxStepTokens * (2 * groupRow + 4 * rowElements);
  // Gathered queries, partial outputs with their LSEs, received copies of them, and their merge; own ones.
  const combine = maxStepTokens * (8 * groupRow * (1 + 1 / sizes.dcp) + 2 * ownRow);
  // This rank's rows of a chunk, and states of its own heads: one for each rank, three at least, of numbers in float64
  // on the reference backend; copies of queries and results.
  const states = Math.max(3, 2 * sizes.dcp + 2) * maxStepTokens * ownRow;
  const prefill = prefillChunk === 0 ? 0 : chunkBytes + states;
  // Operands on their way to the rank that holds the GPU: a chunk's rows, a step's queries, keys, values and results.
  const forwarded = cache.isShared ? chunkBytes + maxStepTokens * (4 * rowElements + 2 * ownRow) : 0;
  const inputs = { maxTokens: maxStepTokens, maxInputs: widestInput(config, share) };
  const loading = loadingScratchBytes(stored, config, share, cache.weights);
  const { vocabularySize } = config;
  const ownVocabulary = lengthOf(share.vocabulary);
  const sampler = { world: sizes.world, vocabularySize, ownVocabulary, maxRows: maxLogitRows, maxWholeRows };
  // Texts may share blocks, but each names its own.
  const named = blocksPerRank({ ...cache, kvTokens: undefined });
  // What a step's query tokens see is planned for the layers of each window, of the whole step and of its halves.
  const tables = 2 + 2 * new Set(config.windows).size;
  const blockTables = 4 * tables * (named + maxStepTokens) + chunkPlanBytes(config, cache);
  return {
    weights: weightBytes(stored, config, share, cache.weights),
    kvCache: cache.isOnDevice ? 0 : blocksBytes(config, cache, rank) + sampleBytes(config, cache, rank),
    scratch: Math.max(
      loading,
      activationBytes(config, share, maxStepTokens, maxLogitRows) +
        linearScratchBytes(inputs) +
        attention +
        samplerOwnBytes(sampler) +
        blockTables,
    ),
    exchange:
      combine +
      prefill +
      forwarded +
      samplerExchangeBytes(sampler) +
      4 * maxStepTokens * config.hiddenSize +
      gatherBytes(config, share, maxStepTokens).sent +
      blockTables,
  };
}

/** Most tokens by which a chunk exceeds what was asked for, in whole blocks, tiles of keys and turns of every rank. */
function chunkRounding(config: ModelConfig, cache: CacheShape): number {
  const { blockSize, sizes, kvWeights } = cache;
  const border = chunkKeys(config, cache);
  let keys = border;
  while (keys % blockSize !== 0) keys += border;
  return keys * weightSum(kvWeights, sizes.dcp) + blockSize;
}

/** Keys of a rank at whose multiples chunks end, whatever backend its peers have. */
function chunkKeys({ headDim }: ModelConfig, { isOnDevice }: CacheShape): number {
  const tile = attentionTileKeys(headDim, headDim);
  if (!isOnDevice) return tile;
  const border = gpuSumsBorder(true, headDim, headDim);
  let keys = tile;
  while (keys % border !== 0) keys += tile;
  return keys;
}

/** Bytes of what the chunks of a text's whole context are planned in, for the layers of each window. */
function chunkPlanBytes(config: ModelConfig, cache: CacheShape): number {
  const { capacity, blockSize, prefillChunk, maxStepTokens } = cache;
  if (prefillChunk === 0) return 0;
  const { dcp } = cache.sizes;
  // Where a rank holds all of a context, one plan does.
  const border = chunkKeys(config, cache) * weightSum(cache.kvWeights, dcp);
  const chunkTokens = dcp === 1 ? capacity : Math.max(prefillChunk, border);
  const blocks = Math.ceil(chunkTokens / blockSize);
  const chunks = Math.ceil(capacity / (blocks * blockSize));
  const words = 3 * Math.min(prefillChunk, maxStepTokens) + blocks;
  // On a GPU what each rank holds of a chunk is planned by itself, and that sums begin and end.
  const plans = cache.isOnDevice && dcp > 1 ? (chunks + 1) * dcp : chunks;
  return new Set(config.windows).size * plans * (4 * words + HEAP_LINE_BYTES);
}

function inMebi(bytes: number): number {
  return Math.ceil(bytes / MEBI) * MEBI;
}

/** `3.50 GiB`, or `12.3 MiB` below one. */
function formatBytes(bytes: number): string {
  if (bytes < 1024 * MEBI) return `${(bytes / MEBI).toFixed(1)} MiB`;
  return `${(bytes / (1024 * MEBI)).toFixed(2)} GiB`;
}

/** Two different numbers, so that they look different. */
export function formatApart(a: number, b: number): readonly [string, string] {
  const mebi = (bytes: number): string => `${(bytes / MEBI).toFixed(1)} MiB`;
  for (const format of [formatBytes, mebi]) if (format(a) !== format(b)) return [format(a), format(b)];
  return [`${a} bytes`, `${b} bytes`];
}
