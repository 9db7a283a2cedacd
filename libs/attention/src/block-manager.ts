import { ArgumentError } from "@lockstep/tensor";
import { OutOfBlocks } from "./errors.ts";

/** One sequence's place in a paged KV cache. */
export interface SequenceBlocks {
  /** Tokens of the whole sequence that are stored, over all shards. */
  readonly length: number;
  /** Its blocks on this rank, in order. */
  readonly blocks: readonly number[];
}

/**
 * Hands out the blocks of a paged KV cache to sequences. Every rank of a DCP group makes the same calls and so holds
 * the same block tables: block i of a sequence covers `virtualBlockSize` global positions, of which each rank stores
 * its share. Blocks are handed out lowest first, so runs repeat exactly.
 */
export class BlockManager {
  readonly totalBlocks: number;
  /** Global positions one block covers: block size times number of shards. */
  readonly virtualBlockSize: number;
  /** Free blocks, highest first: the next one to hand out is last. */
  readonly #free: number[];
  readonly #sequences = new Map<number, { length: number; blocks: number[] }>();
  #nextSequence = 0;

  constructor(totalBlocks: number, virtualBlockSize: number) {
    this.totalBlocks = totalBlocks;
    this.virtualBlockSize = virtualBlockSize;
    this.#free = Array.from({ length: totalBlocks }, (_, index) => totalBlocks - 1 - index);
  }

  get freeBlocks(): number {
    return this.#free.length;
  }

  /** A new, empty sequence; returns its id. */
  createSequence(): number {
    const sequence = this.#nextSequence++;
    this.#sequences.set(sequence, { length: 0, blocks: [] });
    return sequence;
  }

  /** @throws ArgumentError when there is no such sequence */
  get(sequence: number): SequenceBlocks {
    return this.#find("BlockManager.get", sequence);
  }

  /**
   * Makes room for more tokens at the end of sequences: all of them or, when blocks run out, none.
   * @throws OutOfBlocks before anything changed
   */
  extend(items: readonly { readonly sequence: number; readonly tokens: number }[]): void {
    const wanted = items.map(({ sequence, tokens }) => {
      const found = this.#find("BlockManager.extend", sequence);
      const length = found.length + tokens;
      return { found, length, more: Math.ceil(length / this.virtualBlockSize) - found.blocks.length };
    });
    const needed = wanted.reduce((sum, { more }) => sum + Math.max(0, more), 0);
    if (needed > this.#free.length) throw new OutOfBlocks(needed, this.#free.length, this.totalBlocks);
    for (const { found, length, more } of wanted) {
      if (more > 0) found.blocks.push(...this.#free.splice(-more).reverse());
      found.length = length;
    }
  }

  /** Drops the last tokens of a sequence, keeping `length`, and frees the blocks that no longer hold any. */
  truncate(sequence: number, length: number): void {
    const found = this.#find("BlockManager.truncate", sequence);
    if (!Number.isInteger(length) || length < 0 || length > found.length) {
      throw new ArgumentError("BlockManager.truncate", "length", `from 0 to ${found.length}`, String(length));
    }
    this.#release(found.blocks.splice(Math.ceil(length / this.virtualBlockSize)));
    found.length = length;
  }

  /** Forgets a sequence and frees its blocks. */
  free(sequence: number): void {
    const { blocks } = this.#find("BlockManager.free", sequence);
    this.#sequences.delete(sequence);
    this.#release(blocks);
  }

  #release(blocks: readonly number[]): void {
    this.#free.push(...blocks);
    this.#free.sort((a, b) => b - a);
  }

  #find(operation: string, sequence: number): { length: number; blocks: number[] } {
    const found = this.#sequences.get(sequence);
    if (found === undefined) {
      throw new ArgumentError(operation, "sequence", "a sequence that was created and not freed", String(sequence));
    }
    return found;
  }
}
