import { ArgumentError, describe } from "@lockstep/tensor";

/**
 * Which shard of a context a rank holds. Tokens are dealt to `count` shards in runs of `interleave` consecutive
 * positions: position p belongs to shard floor(p / interleave) mod count. `index` is this rank's shard.
 */
export interface KvShard {
  /** This shard, from 0. */
  readonly index: number;
  /** Number of shards (W). */
  readonly count: number;
  /** Consecutive positions per turn (I); must divide the KV block size. */
  readonly interleave: number;
}

/** The whole context in one shard. */
export const UNSHARDED: KvShard = { index: 0, count: 1, interleave: 1 };

/** Throws unless `shard` is well formed and its interleave divides `blockSize`. */
export function checkKvShard(operation: string, shard: KvShard, blockSize: number): void {
  if (typeof shard !== "object" || shard === null) {
    throw new ArgumentError(operation, "shard", "an object with index, count and interleave", describe(shard));
  }
  const { index, count, interleave } = shard;
  if (!Number.isInteger(count) || count < 1) {
    throw new ArgumentError(operation, "shard.count", "a positive integer", describe(count));
  }
  if (!Number.isInteger(index) || index < 0 || index >= count) {
    throw new ArgumentError(operation, "shard.index", `from 0 to ${count - 1}`, describe(index));
  }
  if (!Number.isInteger(interleave) || interleave < 1 || blockSize % interleave !== 0) {
    throw new ArgumentError(
      operation,
      "shard.interleave",
      `a positive divisor of the block size ${blockSize}`,
      describe(interleave),
    );
  }
}

/** The shard, of `count` shards, that stores position p, dealt in runs of `interleave` positions. */
export function kvOwner(position: number, count: number, interleave: number): number {
  return Math.floor(position / interleave) % count;
}

/** How many of the first `length` positions a shard stores. Summed over the shards: `length`. */
export function localLength(shard: KvShard, length: number): number {
  const { index, count, interleave } = shard;
  const round = count * interleave;
  const rest = (length % round) - index * interleave;
  return Math.floor(length / round) * interleave + Math.min(Math.max(rest, 0), interleave);
}

/** The position that local index `local` of a shard stands for. */
export function globalPosition(shard: KvShard, local: number): number {
  const { index, count, interleave } = shard;
  return Math.floor(local / interleave) * count * interleave + index * interleave + (local % interleave);
}

/**
 * The cache slot (block * blockSize + offset) where a shard stores position p of a sequence, or -1 when another
 * shard stores it. Block table entry i covers positions [i * V, (i + 1) * V) with V = blockSize * count, of which
 * this shard keeps blockSize.
 */
export function kvSlot(shard: KvShard, position: number, blockSize: number, blockTable: ArrayLike<number>): number {
  const { index, count, interleave } = shard;
  const virtualBlock = blockSize * count;
  const offset = position % virtualBlock;
  if (Math.floor(offset / interleave) % count !== index) return -1;
  const block = blockTable[Math.floor(position / virtualBlock)];
  if (block === undefined) {
    throw new ArgumentError(
      "kvSlot",
      "blockTable",
      `at least ${Math.floor(position / virtualBlock) + 1} blocks for position ${position}`,
      `${blockTable.length} blocks`,
    );
  }
  return block * blockSize + Math.floor(offset / (count * interleave)) * interleave + (offset % interleave);
}

/**
 * The local indexes [start, end) that a query at global position `position` sees in a shard: stored positions p with
 * position - window < p <= position (all p <= position without a window). Position -1 sees nothing.
 */
export function visibleRange(shard: KvShard, position: number, window?: number): { start: number; end: number } {
  const end = localLength(shard, position + 1);
  const first = window === undefined ? 0 : Math.max(0, position - window + 1);
  return { start: Math.min(localLength(shard, first), end), end };
}
