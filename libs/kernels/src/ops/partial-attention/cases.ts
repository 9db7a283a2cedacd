import { type Arena, type DType, Tensor } from "@lockstep/tensor";
import { type KvShard, kvOwner, kvSlot, localLength, UNSHARDED } from "../../kv/kv-ownership.ts";
import { F32_TOLERANCE, HALF_INPUT_TOLERANCE } from "../../testing/close.ts";
import { isQuantised } from "../../kv/quantised-kv.ts";
import type { OpCase } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { emptyStrided, type Layout, strided } from "../../testing/strided.ts";
import type { UnplannedAttentionArgs } from "./index.ts";

/** One case: a batch of sequences, each with some query tokens at its end. */
export interface AttentionRow {
  /** Tokens of each sequence over all shards, the query tokens included. */
  readonly lengths: readonly number[];
  /** Query tokens of each sequence: its last positions. Default 1 each. */
  readonly queries?: readonly number[];
  readonly heads: readonly [query: number, kv: number];
  readonly keyDim: number;
  readonly valueDim?: number;
  readonly blockSize: number;
  /** Of the cache; random scales for each KV head if it is quantised. */
  readonly dtype?: DType;
  /** One scale for the whole cache instead. */
  readonly tensorScale?: boolean;
  /** One for every row instead. */
  readonly rowScales?: boolean;
  readonly queryDType?: DType;
  readonly shard?: KvShard;
  readonly window?: number;
  readonly softcap?: number;
  readonly scale?: number;
  readonly headGroup?: { readonly size: number; readonly offset: number };
  /** Sink of each query head. */
  readonly sinks?: readonly number[];
  /** Values are the first columns of the keys. */
  readonly mla?: boolean;
  /** Of query, out and lse. */
  readonly layout?: Layout;
  /** Cache with the KV head dimension outside the blocks. */
  readonly stridedCache?: boolean;
  /** Adds a query token at position -1. */
  readonly padding?: boolean;
  /** Query tokens in random order. */
  readonly shuffled?: boolean;
}

export interface HeapPartialAttentionArgs extends UnplannedAttentionArgs {
  readonly query: Tensor;
  readonly keyCache: Tensor;
  readonly valueCache: Tensor;
  readonly out: Tensor;
  readonly lse: Tensor;
}

const shardOf = (index: number, count: number, interleave: number): KvShard => ({ index, count, interleave });

const SMALL = { heads: [4, 2], keyDim: 16 } as const;
const GROUPED = { heads: [8, 2], keyDim: 64, dtype: "f16" } as const;

export const ATTENTION_ROWS: readonly AttentionRow[] = [
  // Batches, lengths and pages.
  { lengths: [1], heads: [1, 1], keyDim: 8, blockSize: 1 },
  { lengths: [54, 1, 97], heads: [4, 4], keyDim: 40, blockSize: 8 },
  { lengths: [113, 54, 17], heads: [8, 2], keyDim: 64, blockSize: 16, dtype: "f16" },
  { lengths: [512], heads: [16, 1], keyDim: 64, blockSize: 16, dtype: "bf16" },
  { lengths: [1024], heads: [4, 1], keyDim: 128, blockSize: 64, dtype: "f16" },
  { lengths: [2048], heads: [8, 1], keyDim: 32, blockSize: 16, dtype: "f16" },
  { lengths: [16384], heads: [2, 1], keyDim: 8, blockSize: 64 },
  { lengths: [3, 1, 7, 20, 5, 9, 33, 2, 1, 1, 64, 65], heads: [4, 2], keyDim: 16, blockSize: 16 },
  { lengths: Array.from({ length: 32 }, (_, index) => 1 + index), heads: [2, 2], keyDim: 24, blockSize: 1 },
  { lengths: [100], heads: [3, 3], keyDim: 48, blockSize: 7 },
  { lengths: [97], heads: [6, 2], keyDim: 56, blockSize: 97, dtype: "bf16" },
  // More KV heads than share a tile, whole groups and not.
  { lengths: [90, 5], heads: [21, 21], keyDim: 24, blockSize: 16, dtype: "f16" },
  { lengths: [90], heads: [40, 20], keyDim: 16, valueDim: 8, blockSize: 16, dtype: "bf16" },
  { lengths: [90], heads: [32, 17], keyDim: 40, blockSize: 16, dtype: "f16", headGroup: { size: 2, offset: 1 } },
  { lengths: [90], heads: [24, 24], keyDim: 8, blockSize: 16, dtype: "f8e4m3" },
  // Head dims that are no multiple of anything.
  { lengths: [37], heads: [2, 1], keyDim: 1, blockSize: 4 },
  { lengths: [37], heads: [5, 1], keyDim: 3, valueDim: 5, blockSize: 4, dtype: "f16" },
  { lengths: [37], heads: [7, 7], keyDim: 5, valueDim: 7, blockSize: 3, dtype: "bf16" },
  { lengths: [70], heads: [12, 4], keyDim: 113, valueDim: 113, blockSize: 16, dtype: "f16" },
  { lengths: [70], heads: [9, 3], keyDim: 113, valueDim: 1, blockSize: 16 },
  { lengths: [70], heads: [4, 2], keyDim: 33, valueDim: 130, blockSize: 16, dtype: "bf16" },
  { lengths: [30], heads: [2, 2], keyDim: 192, valueDim: 128, blockSize: 8, dtype: "f16" },
  { lengths: [30], heads: [4, 1], keyDim: 256, blockSize: 16 },
  // MLA: one latent head, the values are columns of the keys.
  { lengths: [65, 9], heads: [16, 1], keyDim: 576, valueDim: 512, blockSize: 16, dtype: "bf16", mla: true },
  { lengths: [20], heads: [8, 1], keyDim: 36, valueDim: 32, blockSize: 8, mla: true, queries: [3] },
  // Shards: some empty, several interleaves. (Dims repeat from here on: compiling a GPU pipeline is what takes time.)
  { lengths: [5], ...SMALL, blockSize: 16, shard: shardOf(7, 8, 1) },
  { lengths: [100, 3], ...SMALL, blockSize: 16, shard: shardOf(1, 2, 1) },
  { lengths: [100, 3], ...GROUPED, blockSize: 16, shard: shardOf(2, 3, 16) },
  { lengths: [300, 64, 16], ...GROUPED, blockSize: 8, shard: shardOf(3, 4, 4) },
  { lengths: [150], ...SMALL, blockSize: 64, shard: shardOf(0, 2, 64) },
  { lengths: [200], ...SMALL, blockSize: 6, shard: shardOf(4, 5, 3) },
  // Several query tokens: causal, ragged, any shard.
  { lengths: [9, 7], queries: [9, 7], ...SMALL, blockSize: 4 },
  { lengths: [40, 33, 5], queries: [4, 1, 3], ...GROUPED, blockSize: 16 },
  { lengths: [40, 33, 5], queries: [4, 0, 3], ...SMALL, blockSize: 8, shard: shardOf(1, 2, 1) },
  { lengths: [40, 6], queries: [7, 2], ...GROUPED, blockSize: 8, shard: shardOf(1, 4, 2) },
  { lengths: [130], queries: [70], ...SMALL, blockSize: 16, shard: shardOf(2, 3, 16) },
  { lengths: [67], queries: [67], heads: [3, 1], keyDim: 24, valueDim: 17, blockSize: 5, dtype: "f16" },
  { lengths: [3, 2], queries: [3, 2], ...SMALL, blockSize: 4, shard: shardOf(3, 4, 1), padding: true },
  { lengths: [21, 18], queries: [5, 6], ...SMALL, blockSize: 4, shuffled: true, window: 3 },
  // Sliding window by global position.
  { lengths: [60], ...SMALL, blockSize: 8, window: 1 },
  { lengths: [200], ...SMALL, blockSize: 8, window: 30, shard: shardOf(1, 3, 2) },
  { lengths: [200, 12], queries: [9, 3], ...GROUPED, blockSize: 16, window: 17 },
  { lengths: [90], queries: [40], ...SMALL, blockSize: 4, window: 5, shard: shardOf(0, 2, 4) },
  { lengths: [100], ...SMALL, blockSize: 16, window: 2, shard: shardOf(0, 4, 4) },
  { lengths: [100], queries: [80], ...GROUPED, blockSize: 16, window: 1000 },
  // Softcap and scale.
  { lengths: [80], ...SMALL, blockSize: 16, softcap: 2 },
  { lengths: [80], queries: [5], ...GROUPED, blockSize: 16, softcap: 30, scale: 1 },
  { lengths: [50], queries: [2], ...SMALL, blockSize: 8, softcap: 5, window: 20, shard: shardOf(1, 2, 8) },
  { lengths: [80], ...GROUPED, blockSize: 16, scale: 0.5 },
  { lengths: [80], ...SMALL, blockSize: 16, scale: 0 },
  { lengths: [80], ...SMALL, blockSize: 16, scale: -0.2 },
  // Query heads that begin or end within a group.
  { lengths: [40], heads: [3, 2], keyDim: 16, blockSize: 8, headGroup: { size: 4, offset: 2 } },
  { lengths: [40], heads: [5, 4], keyDim: 16, blockSize: 8, headGroup: { size: 2, offset: 3 } },
  { lengths: [40], queries: [6], heads: [2, 3], keyDim: 16, blockSize: 8, headGroup: { size: 8, offset: 9 } },
  // Sinks: the largest, the smallest or none of the scores; over empty shards, padding, splits and several tokens.
  { lengths: [40], ...SMALL, blockSize: 8, sinks: [0.5, -3, 30, Number.NEGATIVE_INFINITY] },
  { lengths: [5, 0], ...SMALL, blockSize: 16, sinks: [1, 2, -1, 0], shard: shardOf(7, 8, 1), padding: true },
  { lengths: [300], ...GROUPED, blockSize: 16, sinks: [1, 2, 3, 4, -1, -2, -3, -4], shard: shardOf(1, 3, 4) },
  {
    lengths: [50, 9],
    queries: [7, 2],
    ...SMALL,
    blockSize: 8,
    sinks: [1, 2, -2, 0.25],
    window: 12,
    softcap: 5,
    scale: 0.4,
    shard: shardOf(0, 2, 4),
  },
  { lengths: [2048], heads: [2, 1], keyDim: 8, blockSize: 64, sinks: [8, -8] },
  {
    lengths: [40],
    heads: [3, 2],
    keyDim: 16,
    blockSize: 8,
    headGroup: { size: 4, offset: 2 },
    sinks: [2, 1, 3],
    queries: [2],
  },
  // Quantised caches: aligned and odd rows, several KV heads, MLA, with everything else; an f8 query.
  { lengths: [70, 9], heads: [8, 2], keyDim: 64, blockSize: 16, dtype: "f8e4m3" },
  { lengths: [70, 9], heads: [8, 2], keyDim: 64, blockSize: 16, dtype: "i8", queryDType: "f8e4m3" },
  { lengths: [37], queries: [3], heads: [4, 2], keyDim: 19, valueDim: 5, blockSize: 4, dtype: "f8e4m3", window: 9 },
  { lengths: [37], heads: [3, 1], keyDim: 7, valueDim: 18, blockSize: 5, dtype: "i8", tensorScale: true, softcap: 3 },
  {
    lengths: [30],
    heads: [6, 1],
    keyDim: 48,
    valueDim: 32,
    blockSize: 8,
    dtype: "f8e4m3",
    mla: true,
    tensorScale: true,
  },
  {
    lengths: [600, 3],
    ...SMALL,
    blockSize: 16,
    dtype: "f8e4m3",
    queryDType: "f8e4m3",
    shard: shardOf(1, 2, 4),
    sinks: [1, 2, 3, 4],
  },
  { lengths: [40], queries: [2], heads: [3, 1], keyDim: 5, blockSize: 8, queryDType: "f8e4m3" },
  // The same with a scale a row.
  { lengths: [70, 9], heads: [8, 2], keyDim: 64, blockSize: 16, dtype: "f8e4m3", rowScales: true },
  { lengths: [70, 9], heads: [8, 2], keyDim: 64, blockSize: 16, dtype: "i8", queryDType: "f8e4m3", rowScales: true },
  {
    lengths: [37],
    queries: [3],
    heads: [4, 2],
    keyDim: 19,
    valueDim: 5,
    blockSize: 4,
    dtype: "f8e4m3",
    window: 9,
    rowScales: true,
  },
  { lengths: [37], heads: [3, 1], keyDim: 7, valueDim: 18, blockSize: 5, dtype: "i8", softcap: 3, rowScales: true },
  {
    lengths: [30],
    queries: [4],
    heads: [6, 1],
    keyDim: 48,
    valueDim: 32,
    blockSize: 8,
    dtype: "f8e4m3",
    mla: true,
    rowScales: true,
  },
  { lengths: [65], heads: [16, 1], keyDim: 36, valueDim: 32, blockSize: 16, dtype: "i8", mla: true, rowScales: true },
  { lengths: [90], heads: [40, 20], keyDim: 16, valueDim: 8, blockSize: 16, dtype: "i8", rowScales: true },
  { lengths: [5, 0], ...SMALL, blockSize: 16, dtype: "i8", shard: shardOf(7, 8, 1), padding: true, rowScales: true },
  {
    lengths: [40],
    queries: [3],
    ...SMALL,
    blockSize: 8,
    dtype: "i8",
    layout: "gaps",
    stridedCache: true,
    rowScales: true,
  },
  {
    lengths: [600, 3],
    ...SMALL,
    blockSize: 16,
    dtype: "f8e4m3",
    shard: shardOf(1, 2, 4),
    sinks: [1, 2, 3, 4],
    rowScales: true,
  },
  // Dtypes of the query, and strides.
  { lengths: [40], ...SMALL, blockSize: 8, queryDType: "f16" },
  { lengths: [40], ...GROUPED, blockSize: 8, queryDType: "bf16" },
  { lengths: [40], ...SMALL, blockSize: 8, layout: "gaps", stridedCache: true },
  { lengths: [40, 9], ...GROUPED, blockSize: 8, layout: "transposed" },
  { lengths: [40], queries: [3], ...SMALL, blockSize: 8, layout: "every-second" },
  { lengths: [40], queries: [3], ...SMALL, blockSize: 8, layout: "columns-first", stridedCache: true },
  // Nothing to do.
  { lengths: [], ...SMALL, blockSize: 16 },
  { lengths: [7], queries: [0], ...SMALL, blockSize: 16 },
  { lengths: [7], heads: [4, 2], keyDim: 16, valueDim: 0, blockSize: 16 },
  { lengths: [7], heads: [0, 2], keyDim: 16, blockSize: 16 },
];

export const PARTIAL_ATTENTION_CASES: readonly OpCase<HeapPartialAttentionArgs>[] = ATTENTION_ROWS.map(
  (row, index) => ({
    name: describeRow(row),
    tolerance: isHalf(row.dtype) || isHalf(row.queryDType) ? HALF_INPUT_TOLERANCE : F32_TOLERANCE,
    build: (arena) => buildAttention(arena, row, new Random(5000 + index)),
  }),
);

function isHalf(dtype: DType | undefined): boolean {
  return dtype === "f16" || dtype === "bf16";
}

/**
 * The arguments of a row. Cache slots hold NaN unless a query token sees them, and block table entries hold -1 unless
 * one of their slots is seen; the blocks of a sequence are scattered over the cache.
 */
export function buildAttention(arena: Arena, row: AttentionRow, random: Random): HeapPartialAttentionArgs {
  const { lengths, blockSize, keyDim, valueDim = keyDim, dtype = "f32", queryDType = "f32", shard = UNSHARDED } = row;
  const { layout = "contiguous", mla = false, stridedCache = false } = row;
  const [queryHeads, kvHeads] = row.heads;
  const tokens = queryTokens(row, random);
  const blocksOf = lengths.map((length) => Math.ceil(localLength(shard, length) / blockSize));
  const usedBlocks = blocksOf.reduce((sum, count) => sum + count, 0);
  const numBlocks = usedBlocks + 2;
  const order = random.permutation(numBlocks);
  const maxBlocks = Math.max(1, ...blocksOf);

  const poison = dtype === "i8" ? -128 : Number.NaN;
  const emptyCache = (dim: number): Tensor =>
    stridedCache
      ? Tensor.empty(arena, dtype, [kvHeads, numBlocks, blockSize, dim]).fill(poison).transpose(0, 1).transpose(1, 2)
      : Tensor.empty(arena, dtype, [numBlocks, blockSize, kvHeads, dim]).fill(poison);
  const keyCache = emptyCache(keyDim);
  const valueCache = mla ? keyCache.slice(3, 0, valueDim) : emptyCache(valueDim);
  const emptyScales = (): Tensor =>
    stridedCache
      ? Tensor.empty(arena, "f32", [kvHeads, numBlocks, blockSize, 1]).fill(Number.NaN).transpose(0, 1).transpose(1, 2)
      : Tensor.empty(arena, "f32", [numBlocks, blockSize, kvHeads, 1]).fill(Number.NaN);
  const keyScaleCache = row.rowScales ? emptyScales() : undefined;
  const valueScaleCache = row.rowScales && !mla ? emptyScales() : keyScaleCache;
  const randomScale = (): number => (0.7 + 0.3 * random.uniform()) * (dtype === "i8" ? 0.03 : 1);
  const blockTable = Tensor.empty(arena, "i32", [lengths.length, maxBlocks]).fill(-1);

  let taken = 0;
  for (const [sequence, length] of lengths.entries()) {
    const blocks = order.slice(taken, taken + (blocksOf[sequence] ?? 0));
    taken += blocks.length;
    const first = firstVisible(row, sequence, tokens);
    for (let position = first; position < length; position++) {
      if (kvOwner(position, shard.count, shard.interleave, shard.weights) !== shard.index) continue;
      const slot = kvSlot(shard, position, blockSize, blocks);
      const block = Math.floor(slot / blockSize);
      blockTable.i32[sequence * maxBlocks + blocks.indexOf(block)] = block;
      for (const cache of mla ? [keyCache] : [keyCache, valueCache]) {
        const place = cache.select(0, block).select(0, slot % blockSize);
        place.set(dtype === "i8" ? random.normals(place.size).map((x) => 40 * x) : random.normals(place.size));
      }
      for (const cache of new Set([keyScaleCache, valueScaleCache])) {
        const place = cache?.select(0, block).select(0, slot % blockSize);
        place?.set(Array.from({ length: place.size }, randomScale));
      }
    }
  }
  const scaleCount = row.tensorScale ? 1 : kvHeads;
  const randomScales = (): number[] => Array.from({ length: scaleCount }, randomScale);
  const keyScale = randomScales();
  const headScales = isQuantised(dtype) ? { keyScale, valueScale: mla ? keyScale : randomScales() } : {};
  const scales =
    keyScaleCache === undefined || valueScaleCache === undefined ? headScales : { keyScaleCache, valueScaleCache };
  const shape = [tokens.length, queryHeads, keyDim];
  return {
    query: strided(arena, queryDType, shape, random.normals(tokens.length * queryHeads * keyDim), layout),
    keyCache,
    valueCache,
    blockTable,
    sequences: tokens.map(({ sequence }) => sequence),
    positions: tokens.map(({ position }) => position),
    ...scales,
    ...(row.shard === undefined ? {} : { shard }),
    ...(row.scale === undefined ? {} : { scale: row.scale }),
    ...(row.softcap === undefined ? {} : { softcap: row.softcap }),
    ...(row.window === undefined ? {} : { window: row.window }),
    ...(row.headGroup === undefined ? {} : { headGroup: row.headGroup }),
    ...(row.sinks === undefined ? {} : { sinks: Tensor.from(arena, "f32", [queryHeads], row.sinks) }),
    out: emptyStrided(arena, "f32", [tokens.length, queryHeads, valueDim], layout),
    lse: emptyStrided(arena, "f32", [tokens.length, queryHeads], layout),
  };
}

interface QueryToken {
  readonly sequence: number;
  readonly position: number;
}

function queryTokens(row: AttentionRow, random: Random): QueryToken[] {
  const tokens = row.lengths.flatMap((length, sequence) => {
    const count = row.queries?.[sequence] ?? 1;
    return Array.from({ length: count }, (_, index) => ({ sequence, position: length - count + index }));
  });
  if (row.padding) tokens.push({ sequence: 0, position: -1 });
  if (!row.shuffled) return tokens;
  return random.permutation(tokens.length).flatMap((index) => tokens[index] ?? []);
}

/** The first position of a sequence that any of its query tokens sees; its length if there are none. */
function firstVisible(row: AttentionRow, sequence: number, tokens: readonly QueryToken[]): number {
  const positions = tokens.filter((token) => token.sequence === sequence && token.position >= 0);
  const earliest = Math.min(row.lengths[sequence] ?? 0, ...positions.map(({ position }) => position));
  if (positions.length === 0) return row.lengths[sequence] ?? 0;
  return row.window === undefined ? 0 : Math.max(0, earliest - row.window + 1);
}

/** A case in words. */
export function describeRow(row: AttentionRow): string {
  const { lengths, heads, keyDim, valueDim = keyDim, blockSize, dtype = "f32", queryDType = "f32", shard } = row;
  const [queryHeads, kvHeads] = heads;
  const batch = lengths.length > 4 ? `${lengths.length} sequences` : `[${lengths}]`;
  const parts = [`L ${batch} Hq${queryHeads} Hkv${kvHeads} Dk${keyDim} Dv${valueDim} block ${blockSize}`];
  parts.push(`${queryDType} over ${dtype}`);
  if (row.queries !== undefined) parts.push(`queries [${row.queries}]`);
  if (shard !== undefined) parts.push(`shard ${shard.index}/${shard.count} I${shard.interleave}`);
  if (row.window !== undefined) parts.push(`window ${row.window}`);
  if (row.softcap !== undefined) parts.push(`softcap ${row.softcap}`);
  if (row.scale !== undefined) parts.push(`scale ${row.scale}`);
  if (row.headGroup !== undefined) parts.push(`group ${row.headGroup.size}+${row.headGroup.offset}`);
  if (row.tensorScale) parts.push("one scale");
  if (row.rowScales) parts.push("a scale a row");
  if (row.sinks !== undefined) parts.push(`sinks [${row.sinks}]`);
  if (row.mla) parts.push("MLA");
  if (row.layout !== undefined) parts.push(row.layout);
  if (row.stridedCache) parts.push("strided cache");
  if (row.padding) parts.push("a padding token");
  if (row.shuffled) parts.push("shuffled");
  return parts.join(", ");
}
