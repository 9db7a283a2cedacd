import { FreeBlocks } from "./free-blocks.ts";
import { KnownBlocks } from "./known-blocks.ts";

/**
 * Who holds which blocks of a KV cache, and which are free. Free blocks are handed out lowest first, those that are
 * known after all others, least recently used first: the same calls give the same blocks.
 */
export class BlockPool {
  /** What full blocks hold. */
  readonly known = new KnownBlocks();
  /** Free blocks that are not known. */
  readonly #unknown: FreeBlocks;
  /** How many hold each block. */
  readonly #holders: Int32Array;

  /** Blocks 0 to total - 1, all free. */
  constructor(total: number) {
    this.#unknown = new FreeBlocks(total);
    this.#holders = new Int32Array(total);
  }

  /** Blocks that nobody holds, known or not. */
  get free(): number {
    return this.#unknown.size + this.known.idle;
  }

  /** How many hold a block. */
  holders(block: number): number {
    return this.#holders[block] ?? 0;
  }

  /** So many free blocks, of which there are enough, each with one holder. Known ones that it takes become unknown. */
  take(count: number): number[] {
    while (this.#unknown.size < count) {
      const { oldest } = this.known;
      if (oldest === undefined) break;
      this.forget(oldest);
    }
    const blocks: number[] = [];
    while (blocks.length < count) {
      const block = this.#unknown.takeLowest();
      if (block === undefined) break;
      blocks.push(block);
    }
    this.hold(blocks);
    return blocks;
  }

  /** Counts one more holder of each of these blocks, which are held or known or were just taken. */
  hold(blocks: readonly number[]): void {
    for (const block of blocks) {
      this.#holders[block] = this.holders(block) + 1;
      this.known.use(block);
    }
  }

  /**
   * Counts one holder less of each of these blocks of one sequence. The last one goes first, so that of known blocks
   * the end of a text is handed out before its beginning, without which it cannot be found.
   */
  release(blocks: readonly number[]): void {
    for (const block of blocks.toReversed()) {
      const holders = this.holders(block) - 1;
      this.#holders[block] = holders;
      if (holders > 0) continue;
      if (this.known.has(block)) this.known.rest(block);
      else this.#unknown.add(block);
    }
  }

  /** Makes a block unknown, and those that continue it. */
  forget(block: number): void {
    for (const freed of this.known.forget(block)) this.#unknown.add(freed);
  }

  /** Makes all blocks unknown. */
  forgetAll(): void {
    for (const freed of this.known.forgetAll()) this.#unknown.add(freed);
  }
}
