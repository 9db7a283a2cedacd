import { type KvShard, kvBlockSize, kvOwner, kvSlot, kvTurnEnd, kvWeightSum } from "@lockstep/kernels";

/** How the tokens of contexts are dealt to shards, and cut into blocks. */
export interface KvLayout extends Pick<KvShard, "count" | "interleave" | "weights"> {
  /** Tokens per block of a shard of weight 1. */
  readonly blockSize: number;
}

/** Positions that one block covers, over all shards. */
export function positionsOfBlock({ blockSize, ...deal }: KvLayout): number {
  return blockSize * kvWeightSum({ ...deal, index: 0 });
}

/** Where a position is stored. */
export interface StoredPlace {
  readonly shard: number;
  /** Its slot in the shard's cache. */
  readonly slot: number;
  /** One past the last position that lies behind it in the same shard and block, without a gap. */
  readonly end: number;
}

/** Finds the places of positions in one layout. */
export class StoredPlaces {
  readonly blockPositions: number;
  readonly #layout: KvLayout;
  readonly #shards: readonly { readonly shard: KvShard; readonly blockSize: number }[];

  constructor(layout: KvLayout) {
    this.#layout = layout;
    this.blockPositions = positionsOfBlock(layout);
    const { count, interleave, weights, blockSize } = layout;
    this.#shards = Array.from({ length: count }, (_, index) => {
      const shard = { index, count, interleave, ...(weights === undefined ? {} : { weights }) };
      return { shard, blockSize: kvBlockSize(shard, blockSize) };
    });
  }

  /** The place of a position whose block is this one. A block holds whole rounds, so each begins like the first. */
  find(position: number, block: number): StoredPlace {
    const { count, interleave, weights } = this.#layout;
    const within = position % this.blockPositions;
    const owner = kvOwner(within, count, interleave, weights);
    const found = this.#shards[owner];
    if (found === undefined) throw new RangeError(`there is no shard ${owner}`);
    const slot = kvSlot(found.shard, within, found.blockSize, [block]);
    return { shard: owner, slot, end: position + kvTurnEnd(found.shard, within) - within };
  }
}
