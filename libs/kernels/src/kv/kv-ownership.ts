import { ArgumentError, describe } from "@lockstep/tensor";

/**
 * Which shard of a context a rank holds. Tokens are dealt to `count` shards in rounds: in each round shard r gets a turn
 * of weights[r] * interleave consecutive positions, after the turns of the shards before it. `index` is this rank's
 * shard. With equal weights of 1, position p belongs to shard floor(p / interleave) mod count.
 */
export interface KvShard {
  /** This shard, from 0. */
  readonly index: number;
  /** Number of shards (W). */
  readonly count: number;
  /** Consecutive positions per turn and weight (I); must divide the KV block size of a shard of weight 1. */
  readonly interleave: number;
  /**
   * Share of the context that each shard stores [count], beside the others': integers of which one at least is not 0. A
   * shard of weight 0 stores nothing. Default: 1 each.
   */
  readonly weights?: readonly number[];
}

/** The whole context in one shard. */
export const UNSHARDED: KvShard = { index: 0, count: 1, interleave: 1 };

/** The largest weight, and the largest sum of them: rounds of any interleave are counted exactly. */
export const MOST_WEIGHT = 2 ** 16;

/**
 * Throws unless `shard` is well formed and its turns fill whole blocks.
 * @param blockSize tokens per block of this shard: see {@link kvBlockSize}; left out: there are no blocks
 */
export function checkKvShard(operation: string, shard: KvShard, blockSize?: number): void {
  if (typeof shard !== "object" || shard === null) {
    throw new ArgumentError(operation, "shard", "an object with index, count and interleave", describe(shard));
  }
  const { index, count, interleave, weights } = shard;
  if (!Number.isInteger(count) || count < 1) {
    throw new ArgumentError(operation, "shard.count", "a positive integer", describe(count));
  }
  if (!Number.isInteger(index) || index < 0 || index >= count) {
    throw new ArgumentError(operation, "shard.index", `from 0 to ${count - 1}`, describe(index));
  }
  if (weights !== undefined) checkKvWeights(operation, "shard.weights", weights, count);
  const weight = kvWeight(shard);
  if (Number.isInteger(interleave) && interleave >= 1) {
    if (blockSize === undefined || weight === 0 || blockSize % (weight * interleave) === 0) return;
  }
  const times = weight === 1 ? "" : `, as its product with the weight ${weight} must be`;
  const divisor = blockSize === undefined ? "a positive integer" : `a positive divisor of the block size ${blockSize}`;
  throw new ArgumentError(operation, "shard.interleave", `${divisor}${times}`, describe(interleave));
}

/**
 * Throws ArgumentError unless these are the weights of `count` shards: see {@link KvShard}.
 * @param operation what was called, for the error's text
 * @param name the argument that the weights came as, for the error's text
 */
export function checkKvWeights(operation: string, name: string, weights: readonly number[], count: number): void {
  if (!Array.isArray(weights) || weights.length !== count) {
    const came = Array.isArray(weights) ? `${weights.length} of them` : describe(weights);
    throw new ArgumentError(operation, name, `a list of ${count} integers, one for each shard`, came);
  }
  let sum = 0;
  for (const [index, weight] of weights.entries()) {
    if (!Number.isInteger(weight) || weight < 0 || weight > MOST_WEIGHT) {
      throw new ArgumentError(operation, `${name}[${index}]`, `an integer from 0 to ${MOST_WEIGHT}`, describe(weight));
    }
    sum += weight;
  }
  if (sum >= 1 && sum <= MOST_WEIGHT) return;
  throw new ArgumentError(operation, name, `integers whose sum is from 1 to ${MOST_WEIGHT}`, `a sum of ${sum}`);
}

/**
 * The weight of a shard.
 * @param of index of the shard. Default: this one
 */
export function kvWeight({ index, weights }: KvShard, of: number = index): number {
  return weights === undefined ? 1 : (weights[of] ?? 0);
}

/** The weights of all shards together: positions of a round, in interleaves. */
export function kvWeightSum({ count, weights }: KvShard): number {
  return weights === undefined ? count : weights.reduce((sum, weight) => sum + weight, 0);
}

/**
 * Tokens that a shard stores of each block. A block has one number on all shards and covers the same
 * blockSize * {@link kvWeightSum} positions there.
 * @param blockSize tokens per block of a shard of weight 1
 */
export function kvBlockSize(shard: KvShard, blockSize: number): number {
  return blockSize * kvWeight(shard);
}

/** Weights of the shards before one, together: where its turn begins in a round, in interleaves. */
function weightBefore({ index, weights }: KvShard): number {
  if (weights === undefined) return index;
  let before = 0;
  for (let other = 0; other < index; other++) before += weights[other] ?? 0;
  return before;
}

/**
 * The shard, of `count` shards, that stores position p.
 * @param interleave consecutive positions per turn and weight
 * @param weights of all shards: see {@link KvShard}
 */
export function kvOwner(position: number, count: number, interleave: number, weights?: readonly number[]): number {
  if (weights === undefined) return Math.floor(position / interleave) % count;
  let place = Math.floor(position / interleave) % kvWeightSum({ index: 0, count, interleave, weights });
  let owner = 0;
  for (; place >= (weights[owner] ?? Number.POSITIVE_INFINITY); owner++) place -= weights[owner] ?? 0;
  return owner;
}

/** How many of the first `length` positions a shard stores. Summed over the shards: `length`. */
export function localLength(shard: KvShard, length: number): number {
  const { interleave } = shard;
  const turn = kvWeight(shard) * interleave;
  const round = kvWeightSum(shard) * interleave;
  const rest = (length % round) - weightBefore(shard) * interleave;
  return Math.floor(length / round) * turn + Math.min(Math.max(rest, 0), turn);
}

/** The position that local index `local` of a shard of weight 1 or more stands for. */
export function globalPosition(shard: KvShard, local: number): number {
  const { interleave } = shard;
  const turn = kvWeight(shard) * interleave;
  const round = kvWeightSum(shard) * interleave;
  return Math.floor(local / turn) * round + weightBefore(shard) * interleave + (local % turn);
}

/**
 * The cache slot (block * blockSize + offset) where a shard stores position p of a sequence, or -1 when another
 * shard stores it. Block table entry i covers positions [i * V, (i + 1) * V), of which this shard keeps blockSize:
 * V = blockSize / weight * {@link kvWeightSum}, which is blockSize * count with equal weights of 1.
 * @param blockSize tokens per block of this shard: see {@link kvBlockSize}
 */
export function kvSlot(shard: KvShard, position: number, blockSize: number, blockTable: ArrayLike<number>): number {
  const { interleave } = shard;
  const turn = kvWeight(shard) * interleave;
  const round = kvWeightSum(shard) * interleave;
  const within = (position % round) - weightBefore(shard) * interleave;
  if (within < 0 || within >= turn) return -1;
  const local = Math.floor(position / round) * turn + within;
  const column = Math.floor(local / blockSize);
  const block = blockTable[column];
  if (block === undefined) {
    throw new ArgumentError(
      "kvSlot",
      "blockTable",
      `at least ${column + 1} blocks for position ${position}`,
      `${blockTable.length} blocks`,
    );
  }
  return block * blockSize + (local % blockSize);
}

/**
 * One past the last position of the turn that a stored position of this shard belongs to: the positions from it to
 * there lie at consecutive local indexes of the shard.
 */
export function kvTurnEnd(shard: KvShard, position: number): number {
  const turn = kvWeight(shard) * shard.interleave;
  return position + turn - (localLength(shard, position) % turn);
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
