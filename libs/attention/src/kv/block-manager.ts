import { ArgumentError, describe } from "@lockstep/tensor";
import { OutOfBlocks } from "../errors.ts";

/** One sequence's place in a paged KV cache. */
export interface SequenceBlocks {
  /** Tokens of the whole sequence that are stored, over all shards. */
  readonly length: number;
  /** Its blocks on this rank, in order. */
  readonly blocks: readonly number[];
}

/** A block whose contents must be copied to another before the sequence that got the other writes to it. */
export interface BlockCopy {
  /** The shared block. */
  readonly from: number;
  /** The block that gets its contents. */
  readonly to: number;
}

/** What {@link BlockManager.extend} reserved. */
export interface Reservation {
  /** Shared blocks that a sequence was given a copy of, because it is about to write to them. */
  readonly copies: readonly BlockCopy[];
  /** Takes the reservation back: every sequence has the length and the blocks that it had before. */
  readonly undo: () => void;
}

interface Sequence {
  length: number;
  blocks: number[];
}

/**
 * Hands out the blocks of a paged KV cache to sequences. Every rank of a DCP group makes the same calls and so holds
 * the same block tables: block i of a sequence covers `virtualBlockSize` global positions, of which each rank stores
 * its share. Blocks are handed out lowest first, so runs repeat exactly.
 *
 * A forked sequence shares the blocks of the one it was forked from. Full blocks stay shared for good; a shared last
 * block that is not full is copied by the first sequence that appends to it (copy-on-write).
 */
export class BlockManager {
  /** Blocks that it manages, free or not. */
  readonly totalBlocks: number;
  /** Global positions one block covers: block size times number of shards. */
  readonly virtualBlockSize: number;
  /** Free blocks, highest first: the next one to hand out is last. */
  readonly #free: number[];
  /** How many sequences hold each block. */
  readonly #holders: Int32Array;
  readonly #sequences = new Map<number, Sequence>();
  /** Id of the next sequence. */
  nextSequence = 0;

  /** Manages `totalBlocks` blocks, each of `virtualBlockSize` global positions. */
  constructor(totalBlocks: number, virtualBlockSize: number) {
    this.totalBlocks = totalBlocks;
    this.virtualBlockSize = virtualBlockSize;
    this.#free = Array.from({ length: totalBlocks }, (_, index) => totalBlocks - 1 - index);
    this.#holders = new Int32Array(totalBlocks);
  }

  /** Blocks that no sequence holds. */
  get freeBlocks(): number {
    return this.#free.length;
  }

  /** A new, empty sequence; returns its id. */
  createSequence(): number {
    return this.#add({ length: 0, blocks: [] });
  }

  /** A new sequence with the tokens of another, whose blocks it shares; returns its id. Takes no block. */
  fork(sequence: number): number {
    const { length, blocks } = this.#find("BlockManager.fork", sequence);
    this.#hold(blocks);
    return this.#add({ length, blocks: [...blocks] });
  }

  /** @throws ArgumentError when there is no such sequence */
  get(sequence: number): SequenceBlocks {
    return this.#find("BlockManager.get", sequence);
  }

  /** How many sequences hold a block. */
  holders(block: number): number {
    return this.#holders[block] ?? 0;
  }

  /**
   * Makes room for more tokens at the end of sequences: all of them or, when blocks run out, none.
   * @throws OutOfBlocks before anything changed
   */
  extend(items: readonly { readonly sequence: number; readonly tokens: number }[]): Reservation {
    const wanted = items.map(({ sequence, tokens }) => {
      const found = this.#find("BlockManager.extend", sequence);
      return { found, tokens, more: this.#blocksFor(found.length + tokens) - found.blocks.length };
    });
    const copied = this.#sharedLastBlocks(wanted);
    const needed = wanted.reduce((sum, { more }) => sum + Math.max(0, more), copied.size);
    if (needed > this.#free.length) throw new OutOfBlocks(needed, this.#free.length, this.totalBlocks);
    const before = wanted.map(({ found }) => ({ found, length: found.length, blocks: [...found.blocks] }));
    const copies: BlockCopy[] = [];
    for (const { found, tokens, more } of wanted) {
      const last = found.blocks.at(-1);
      if (copied.has(found) && last !== undefined) {
        const [to = -1] = this.#take(1);
        copies.push({ from: last, to });
        found.blocks[found.blocks.length - 1] = to;
        this.#release([last]);
      }
      if (more > 0) found.blocks.push(...this.#take(more));
      found.length += tokens;
    }
    const undo = (): void => {
      for (const { blocks } of before) this.#hold(blocks);
      for (const { found, length, blocks } of before) {
        this.#release(found.blocks);
        found.length = length;
        found.blocks = blocks;
      }
    };
    return { copies, undo };
  }

  /** Drops the last tokens of a sequence, keeping `length`, and frees the blocks that no longer hold any. */
  truncate(sequence: number, length: number): void {
    const found = this.#find("BlockManager.truncate", sequence);
    if (!Number.isInteger(length) || length < 0 || length > found.length) {
      throw new ArgumentError("BlockManager.truncate", "length", `from 0 to ${found.length}`, describe(length));
    }
    this.#release(found.blocks.splice(this.#blocksFor(length)));
    found.length = length;
  }

  /** Forgets a sequence and frees the blocks that no other sequence holds. */
  free(sequence: number): void {
    const { blocks } = this.#find("BlockManager.free", sequence);
    this.#sequences.delete(sequence);
    this.#release(blocks);
  }

  /**
   * Sequences that need a copy of their last block, because they are about to write to it and others hold it. When all
   * who hold a block write to it in one step, the last of them keeps it: by then the others have their copies.
   */
  #sharedLastBlocks(wanted: readonly { readonly found: Sequence; readonly tokens: number }[]): Set<Sequence> {
    const copied = new Set<Sequence>();
    const left = new Map<number, number>();
    for (const { found, tokens } of wanted) {
      const last = found.blocks.at(-1);
      if (tokens === 0 || last === undefined || found.length % this.virtualBlockSize === 0) continue;
      const holders = left.get(last) ?? this.holders(last);
      if (holders > 1) {
        copied.add(found);
        left.set(last, holders - 1);
      }
    }
    return copied;
  }

  #blocksFor(length: number): number {
    return Math.ceil(length / this.virtualBlockSize);
  }

  #add(sequence: Sequence): number {
    const id = this.nextSequence++;
    this.#sequences.set(id, sequence);
    return id;
  }

  /** The next free blocks, each with one holder. */
  #take(count: number): number[] {
    const blocks = this.#free.splice(-count).reverse();
    this.#hold(blocks);
    return blocks;
  }

  #hold(blocks: readonly number[]): void {
    for (const block of blocks) this.#holders[block] = this.holders(block) + 1;
  }

  #release(blocks: readonly number[]): void {
    let isFreed = false;
    for (const block of blocks) {
      const holders = this.holders(block) - 1;
      this.#holders[block] = holders;
      if (holders > 0) continue;
      this.#free.push(block);
      isFreed = true;
    }
    if (isFreed) this.#free.sort((a, b) => b - a);
  }

  #find(operation: string, sequence: number): Sequence {
    const found = this.#sequences.get(sequence);
    if (found === undefined) {
      throw new ArgumentError(operation, "sequence", "a sequence that was created and not freed", describe(sequence));
    }
    return found;
  }
}
