import { ArgumentError, describe } from "@lockstep/tensor";
import { OutOfBlocks } from "../errors.ts";
import { BlockPool } from "./block-pool.ts";
import type { ContextImage } from "./context-image.ts";
import type { KnownContents } from "./known-blocks.ts";
import { expectTokens } from "./expect-tokens.ts";

/** One sequence's place in a paged KV cache. */
export interface SequenceBlocks {
  /** Tokens of the whole sequence that are stored, over all shards. */
  readonly length: number;
  /** Its blocks on this rank, in order. */
  readonly blocks: readonly number[];
}

/** How the blocks of a KV cache are used. */
export interface BlockCounts {
  /** All blocks. */
  readonly total: number;
  /** Blocks that no sequence holds, known ones among them. */
  readonly free: number;
  /** Free blocks whose contents are known, and found by those who ask for their tokens. */
  readonly known: number;
}

/** Blocks that are held for what is to become known. */
export interface KnownReservation {
  /** Which blocks are to be filled, each with what is at which place of the list. */
  readonly blocks: readonly { readonly index: number; readonly block: number }[];
  /** Makes them known, and releases them. */
  readonly commit: () => void;
  /** Releases them. */
  readonly cancel: () => void;
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
  /** So many blocks at its start are known ones: `keepPrefix` was told their tokens. */
  kept: number;
}

/**
 * Hands out the blocks of a paged KV cache to sequences. Every rank of a DCP group makes the same calls and so holds
 * the same block tables: block i of a sequence covers `virtualBlockSize` global positions, of which each rank stores
 * its share. Blocks are handed out lowest first, so runs repeat exactly.
 *
 * A forked sequence shares the blocks of the one it was forked from. Full blocks stay shared for good; a shared last
 * block that is not full is copied by the first sequence that appends to it (copy-on-write).
 *
 * Prefix cache: `keepPrefix` makes full blocks known by their tokens, and `createSequenceFrom` finds them again. A known
 * block that nobody holds is free, but stays known until it is handed out, after all free blocks that are unknown. A
 * known block is never written to: a sequence that was cut back into one and appends gets a copy or, when it alone holds
 * it, makes it unknown.
 */
export class BlockManager {
  /** Blocks that it manages, free or not. */
  readonly totalBlocks: number;
  /** Global positions one block covers: block size times number of shards. */
  readonly virtualBlockSize: number;
  readonly #pool: BlockPool;
  readonly #sequences = new Map<number, Sequence>();
  /** Id of the next sequence. */
  nextSequence = 0;

  /** Manages `totalBlocks` blocks, each of `virtualBlockSize` global positions. */
  constructor(totalBlocks: number, virtualBlockSize: number) {
    this.totalBlocks = totalBlocks;
    this.virtualBlockSize = virtualBlockSize;
    this.#pool = new BlockPool(totalBlocks);
  }

  /** Blocks that no sequence holds, known or not. */
  get freeBlocks(): number {
    return this.#pool.free;
  }

  /** Known blocks that no sequence holds. */
  get knownBlocks(): number {
    return this.#pool.known.idle;
  }

  /** A new, empty sequence; returns its id. */
  createSequence(): number {
    return this.#add({ length: 0, blocks: [], kept: 0 });
  }

  /** A new sequence with the tokens of another, whose blocks it shares; returns its id. Takes no block. */
  fork(sequence: number): number {
    const { length, blocks, kept } = this.#find("BlockManager.fork", sequence);
    this.#pool.hold(blocks);
    return this.#add({ length, blocks: [...blocks], kept });
  }

  /**
   * A new sequence that begins with the longest known run of full blocks of a text. Takes no block beyond those.
   * @param ids the text's tokens; the last one is never taken from a known block, for something is to be computed
   * @returns its id, and how many tokens it has
   */
  createSequenceFrom(ids: readonly number[]): { readonly sequence: number; readonly cached: number } {
    const blocks = this.#knownRun("BlockManager.createSequenceFrom", ids);
    this.#pool.hold(blocks);
    const length = blocks.length * this.virtualBlockSize;
    return { sequence: this.#add({ length, blocks, kept: blocks.length }), cached: length };
  }

  /** All known blocks, each after the one that it continues; otherwise those used last come first. */
  listKnown(): KnownContents[] {
    return this.#pool.known.list();
  }

  /** How many tokens `createSequenceFrom` would find. Takes nothing, and uses nothing. */
  knownPrefix(ids: readonly number[]): number {
    return this.#knownRun("BlockManager.knownPrefix", ids).length * this.virtualBlockSize;
  }

  /**
   * Makes the full blocks of a sequence known by their tokens. Looks at those only that no earlier call told. Where
   * another block is known to hold the same, the sequence goes on with that one, and its own is released.
   * @param ids the first tokens of the sequence, as they are stored
   * @throws ArgumentError when there are more than the sequence has, or when a block is known to hold others
   */
  keepPrefix(sequence: number, ids: readonly number[]): void {
    const operation = "BlockManager.keepPrefix";
    const found = this.#find(operation, sequence);
    const size = this.virtualBlockSize;
    expectTokens(operation, ids, found.kept * size);
    if (ids.length > found.length) {
      throw new ArgumentError(operation, "ids", `at most the ${found.length} tokens it stores`, `${ids.length}`);
    }
    const added = this.#toKeep(operation, found, ids);
    for (const { tokens, known } of added) {
      const at = found.kept;
      const own = found.blocks[at] ?? -1;
      if (known === undefined) this.#pool.known.add(own, found.blocks[at - 1], tokens);
      else if (known !== own) {
        this.#pool.hold([known]);
        found.blocks[at] = known;
        this.#pool.release([own]);
      }
      found.kept++;
    }
  }

  /**
   * Holds free blocks for texts that are not known yet, in the order of a list, as many as there are unknown ones.
   * @param list blocks, each after its parent, whose place in the list it names (-1: none)
   * @returns which blocks are to be filled with what is at which places; then either commit, which makes them known and
   *   releases them, or cancel, which only releases them, is to be called, before anything else
   * @throws ArgumentError for blocks of another size, and for what are no token ids; nothing is held then
   */
  reserveKnown(list: readonly { readonly parent: number; readonly tokens: readonly number[] }[]): KnownReservation {
    const operation = "BlockManager.reserveKnown";
    const size = this.virtualBlockSize;
    for (const [index, { tokens }] of list.entries()) {
      expectTokens(operation, tokens);
      if (tokens.length === size) continue;
      throw new ArgumentError(operation, `list[${index}]`, `${size} tokens, as a block holds`, `${tokens.length}`);
    }
    const { known } = this.#pool;
    const places: (number | undefined)[] = [];
    const blocks: { index: number; block: number; parent: number | undefined; tokens: readonly number[] }[] = [];
    for (const [index, { parent: place, tokens }] of list.entries()) {
      const parent = places[place];
      const isReachable = place === -1 || parent !== undefined;
      const there = isReachable ? known.find(parent, tokens, 0, size) : undefined;
      const hasRoom = isReachable && there === undefined && this.#pool.free > known.idle;
      const [block] = hasRoom ? this.#pool.take(1) : [];
      if (block !== undefined) blocks.push({ index, block, parent, tokens: [...tokens] });
      places.push(there ?? block);
    }
    const cancel = (): void => this.#pool.release(blocks.map(({ block }) => block));
    const commit = (): void => {
      for (const { block, parent, tokens } of blocks) {
        const isReachable = parent === undefined || known.has(parent);
        if (isReachable && known.find(parent, tokens, 0, size) === undefined) known.add(block, parent, tokens);
      }
      cancel();
    };
    return { blocks, commit, cancel };
  }

  /** Makes every block unknown. Sequences keep theirs, and `keepPrefix` may make them known again. */
  forgetPrefixes(): void {
    this.#pool.forgetAll();
    for (const sequence of this.#sequences.values()) sequence.kept = 0;
  }

  /** Who holds which blocks, and what is known of them. */
  get image(): ContextImage {
    const sequences = [...this.#sequences].map(([id, { length, blocks, kept }]) => {
      return { id, length, blocks: [...blocks], kept };
    });
    return {
      nextSequence: this.nextSequence,
      sequences: sequences.sort((a, b) => a.id - b.id),
      known: this.listKnown(),
    };
  }

  /**
   * Takes over what an image says. Only for a manager that has given out nothing yet.
   * @param image its blocks are numbered from 0 on, without a gap, and there are as many here at least
   */
  adopt({ nextSequence, sequences, known }: ContextImage): void {
    const held = new Set([...known.map(({ block }) => block), ...sequences.flatMap(({ blocks }) => blocks)]);
    this.#pool.take(held.size);
    for (const { block, parent, tokens } of known) this.#pool.known.add(block, parent, [...tokens]);
    for (const { id, length, blocks, kept } of sequences) {
      this.#pool.hold(blocks);
      this.#sequences.set(id, { length, blocks: [...blocks], kept });
    }
    // Of those that no sequence holds the first of the list was used last: it is released last.
    this.#pool.release([...held]);
    this.nextSequence = nextSequence;
  }

  /** @throws ArgumentError when there is no such sequence */
  get(sequence: number): SequenceBlocks {
    const { length, blocks } = this.#find("BlockManager.get", sequence);
    return { length, blocks };
  }

  /** How many sequences hold a block. */
  holders(block: number): number {
    return this.#pool.holders(block);
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
    if (needed > this.freeBlocks) throw new OutOfBlocks(needed, this.freeBlocks, this.totalBlocks);
    const before = wanted.map(({ found }) => ({ ...found, found, blocks: [...found.blocks] }));
    for (const { found, tokens } of wanted) {
      const last = found.blocks.at(-1);
      if (tokens > 0 && last !== undefined && this.#endsInside(found) && !copied.has(found)) this.#pool.forget(last);
    }
    const copies: BlockCopy[] = [];
    for (const { found, tokens, more } of wanted) {
      const last = found.blocks.at(-1);
      if (copied.has(found) && last !== undefined) {
        const [to = -1] = this.#pool.take(1);
        copies.push({ from: last, to });
        found.blocks[found.blocks.length - 1] = to;
        this.#pool.release([last]);
      }
      if (more > 0) found.blocks.push(...this.#pool.take(more));
      found.length += tokens;
    }
    const undo = (): void => {
      for (const { blocks } of before) this.#pool.hold(blocks);
      for (const { found, length, blocks, kept } of before) {
        this.#pool.release(found.blocks);
        found.length = length;
        found.blocks = blocks;
        found.kept = Math.min(kept, found.kept);
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
    this.#pool.release(found.blocks.splice(this.#blocksFor(length)));
    found.length = length;
    found.kept = Math.min(found.kept, Math.floor(length / this.virtualBlockSize));
  }

  /** Forgets a sequence and frees the blocks that no other sequence holds. */
  free(sequence: number): void {
    const { blocks } = this.#find("BlockManager.free", sequence);
    this.#sequences.delete(sequence);
    this.#pool.release(blocks);
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
      if (tokens === 0 || last === undefined || !this.#endsInside(found)) continue;
      const holders = left.get(last) ?? this.holders(last);
      if (holders > 1) {
        copied.add(found);
        left.set(last, holders - 1);
      }
    }
    return copied;
  }

  /** Whether the last block of a sequence has room. */
  #endsInside({ length }: Sequence): boolean {
    return length % this.virtualBlockSize !== 0;
  }

  /** The known blocks that a text begins with, short of its last token. */
  #knownRun(operation: string, ids: readonly number[]): number[] {
    expectTokens(operation, ids);
    const size = this.virtualBlockSize;
    const blocks: number[] = [];
    for (let end = size; end < ids.length; end += size) {
      const block = this.#pool.known.find(blocks.at(-1), ids, end - size, size);
      if (block === undefined) break;
      blocks.push(block);
    }
    return blocks;
  }

  /** The blocks of a sequence that `ids` fill and that are not kept yet: tokens, and who is known to hold the same. */
  #toKeep(
    operation: string,
    found: Sequence,
    ids: readonly number[],
  ): { tokens: readonly number[]; known: number | undefined }[] {
    const size = this.virtualBlockSize;
    const added: { tokens: readonly number[]; known: number | undefined }[] = [];
    let parent = found.blocks[found.kept - 1];
    for (let at = found.kept; at < Math.floor(ids.length / size); at++) {
      const isUnknown = at > 0 && parent === undefined;
      const known = isUnknown ? undefined : this.#pool.known.find(parent, ids, at * size, size);
      const own = found.blocks[at] ?? -1;
      if (known !== own && this.#pool.known.has(own)) {
        const expected = `the tokens that its block of positions ${at * size} to ${(at + 1) * size - 1} is known to hold`;
        throw new ArgumentError(operation, "ids", expected, "others");
      }
      added.push({ tokens: ids.slice(at * size, (at + 1) * size), known });
      parent = known;
    }
    return added;
  }

  #blocksFor(length: number): number {
    return Math.ceil(length / this.virtualBlockSize);
  }

  #add(sequence: Sequence): number {
    const id = this.nextSequence++;
    this.#sequences.set(id, sequence);
    return id;
  }

  #find(operation: string, sequence: number): Sequence {
    const found = this.#sequences.get(sequence);
    if (found === undefined) {
      throw new ArgumentError(operation, "sequence", "a sequence that was created and not freed", describe(sequence));
    }
    return found;
  }
}
