// What the tests of rows' bits compare with a batch: a row of it alone, and a part of its context.
import { type Arena, Tensor } from "@lockstep/tensor";
import { UNSHARDED, visibleRange } from "../kv/kv-ownership.ts";
import type { Random } from "./random.ts";
import type { HeapPartialAttentionArgs } from "../ops/partial-attention/cases.ts";

/**
 * One token and heads [from, to) of a batch, its keys in scattered blocks of another size, all else in them NaN.
 * @param interleaves interleaves to a block; at random when left out
 */
export function rowAlone(
  arena: Arena,
  args: HeapPartialAttentionArgs,
  token: number,
  [from, to]: readonly [number, number],
  random: Random,
  interleaves = 1 + random.integer(20),
): HeapPartialAttentionArgs {
  const { query, shard = UNSHARDED, window, sinks, keyCache, valueCache } = args;
  const position = args.positions[token] ?? -1;
  const row = args.sequences[token] ?? 0;
  const { start, end } = visibleRange(shard, position, window);
  const oldSize = keyCache.dim(1);
  const blockSize = shard.interleave * interleaves;
  const blocks = Math.ceil(end / blockSize);
  const order = random.permutation(blocks + 2);
  const blockTable = Tensor.empty(arena, "i32", [1, Math.max(1, blocks)]).fill(-1);
  const moved = (cache: Tensor): Tensor => {
    const place = Tensor.empty(arena, cache.dtype, [blocks + 2, blockSize, ...cache.shape.slice(2)]);
    place.fill(cache.dtype === "i8" ? -128 : Number.NaN);
    for (let local = start; local < end; local++) {
      const block = order[Math.floor(local / blockSize)] ?? 0;
      blockTable.i32[Math.floor(local / blockSize)] = block;
      const source = cache.select(0, args.blockTable.at(row, Math.floor(local / oldSize))).select(0, local % oldSize);
      place
        .select(0, block)
        .select(0, local % blockSize)
        .copyFrom(source);
    }
    return place;
  };
  const { keyScale, valueScale, keyScaleCache, valueScaleCache } = args;
  const rowScales =
    keyScaleCache instanceof Tensor && valueScaleCache instanceof Tensor
      ? { keyScaleCache: moved(keyScaleCache), valueScaleCache: moved(valueScaleCache) }
      : {};
  const group = query.dim(1) / keyCache.dim(2);
  return {
    query: query.slice(0, token, token + 1).slice(1, from, to),
    keyCache: moved(keyCache),
    valueCache: moved(valueCache),
    blockTable,
    sequences: [0],
    positions: [position],
    shard,
    headGroup: { size: group, offset: from },
    ...rowScales,
    ...(keyScale === undefined ? {} : { keyScale }),
    ...(valueScale === undefined ? {} : { valueScale }),
    ...(args.softcap === undefined ? {} : { softcap: args.softcap }),
    ...(window === undefined ? {} : { window }),
    ...(sinks === undefined ? {} : { sinks: sinks.slice(0, from, to) }),
    out: Tensor.empty(arena, "f32", [1, to - from, valueCache.dim(3)]).fill(Number.NaN),
    lse: Tensor.empty(arena, "f32", [1, to - from]).fill(Number.NaN),
  };
}

/** A copy of the local indexes [first, end) of every sequence: a block of `room` each, all else in it NaN. */
export function contextPart(
  arena: Arena,
  args: HeapPartialAttentionArgs,
  first: number,
  end: number,
  room = end - first,
): Partial<HeapPartialAttentionArgs> {
  const { blockTable, shard = UNSHARDED, keyCache, valueCache, keyScaleCache, valueScaleCache } = args;
  const [sequences = 0, columns = 0] = blockTable.shape;
  const blockSize = keyCache.dim(1);
  const copy = (cache: Tensor): Tensor => {
    const blocks = Tensor.empty(arena, cache.dtype, [sequences, room, ...cache.shape.slice(2)]);
    blocks.fill(cache.dtype === "i8" ? -128 : Number.NaN);
    for (let row = 0; row < sequences; row++) {
      for (let local = first; local < Math.min(end, columns * blockSize); local++) {
        const block = blockTable.at(row, Math.floor(local / blockSize));
        if (block < 0) continue;
        blocks
          .select(0, row)
          .select(0, local - first)
          .copyFrom(cache.select(0, block).select(0, local % blockSize));
      }
    }
    return blocks;
  };
  const rowScales =
    keyScaleCache instanceof Tensor && valueScaleCache instanceof Tensor
      ? { keyScaleCache: copy(keyScaleCache), valueScaleCache: copy(valueScaleCache) }
      : {};
  return {
    keyCache: copy(keyCache),
    valueCache: copy(valueCache),
    ...rowScales,
    blockTable: Tensor.from(arena, "i32", [sequences, 1], [...Array(sequences).keys()]),
    segments: Array.from({ length: sequences }, () => ({ first, count: end - first })),
    shard,
  };
}
