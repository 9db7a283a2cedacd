// Which share of the KV cache each rank of a DCP group stores, and how much fits.
import { UnfitOptions } from "../errors.ts";

/** Largest weight that is found for a rank: larger ones would need longer chunks of prefills and larger blocks. */
const MOST_WEIGHT = 16;
/** Weights that hold so much of what the best ones hold are taken when they are smaller. */
const ENOUGH = 0.99;

/** What decides the shares of the ranks of a DCP group, in their order. */
export interface ShareOptions {
  /** Shares, beside each other. Left out: by `kvBytes`, or equal ones. */
  readonly kvWeights?: readonly number[] | undefined;
  /** Bytes that each rank has for its KV cache. Left out: nobody says. */
  readonly kvBytes?: readonly number[] | undefined;
}

/** The ranks of a DCP group that options name one by one; undefined when they name none. */
export function namedRanks({ kvWeights, kvBytes }: ShareOptions): number | undefined {
  return kvWeights?.length ?? kvBytes?.length;
}

/** Throws {@link UnfitOptions} unless as many ranks share a KV cache as options name, if they do. */
export function checkNamedRanks({ kvWeights, kvBytes }: ShareOptions, world: number, dcp: number): void {
  for (const [name, list] of Object.entries({ kvWeights, kvBytes })) {
    const ranks = list?.length ?? dcp;
    if (ranks === dcp && world % dcp === 0) continue;
    if (list === undefined) continue;
    const entries = `\`${name}\` has ${ranks} ${ranks === 1 ? "entry" : "entries"}, one for each rank that shares a KV cache`;
    const others = ranks === dcp ? `${dcp} does not divide \`world\` ${world}` : `\`dcp\` is ${dcp}`;
    throw new UnfitOptions(`${entries}, but ${others}.`);
  }
}

/**
 * The weights of the ranks of a DCP group. From bytes they are found such that the cache holds about as many tokens as
 * it can; the smallest of those.
 * @param blockBytes bytes of a block on a rank of weight 1
 * @returns undefined for equal shares
 */
export function kvWeightsOf({ kvWeights, kvBytes }: ShareOptions, blockBytes: number): readonly number[] | undefined {
  if (kvWeights !== undefined || kvBytes === undefined) return kvWeights;
  const held = new Map<readonly number[], number>();
  // With the best weights some rank has room for just so many blocks, and every other for as much as it can of each.
  for (const fullest of kvBytes) {
    for (let weight = 1; weight <= MOST_WEIGHT; weight++) {
      const blocks = Math.floor(fullest / (weight * blockBytes));
      if (blocks === 0) break;
      const weights = kvBytes.map((bytes) => Math.min(MOST_WEIGHT, Math.floor(bytes / (blocks * blockBytes))));
      held.set(weights, sum(weights) * blocks);
    }
  }
  const best = Math.max(...held.values());
  const [smallest] = [...held]
    .filter(([, positions]) => positions >= ENOUGH * best)
    .map(([weights]) => weights)
    .sort((a, b) => sum(a) - sum(b));
  // Without room for one block anywhere, what does not fit is told of whoever is to have one.
  return smallest ?? kvBytes.map((bytes) => (bytes > 0 ? 1 : 0));
}

/** The most blocks that every rank has room for. */
export function mostBlocks(weights: readonly number[], kvBytes: readonly number[], blockBytes: number): number {
  const blocks = weights.map((weight, rank) =>
    weight === 0 ? Number.POSITIVE_INFINITY : Math.floor((kvBytes[rank] ?? 0) / (weight * blockBytes)),
  );
  return Math.min(...blocks);
}

/** The weight of a rank of the world, whose DCP groups are contiguous and share alike. */
export function weightOf(weights: readonly number[] | undefined, rank: number, dcp: number): number {
  return weights === undefined ? 1 : (weights[rank % dcp] ?? 0);
}

/** The weights of the ranks of a DCP group; 1 each where nobody gave any. */
export function sharesOf(weights: readonly number[] | undefined, dcp: number): readonly number[] {
  return weights ?? new Array<number>(dcp).fill(1);
}

/** The weights of the ranks of a DCP group together. */
export function weightSum(weights: readonly number[] | undefined, dcp: number): number {
  return sum(sharesOf(weights, dcp));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
