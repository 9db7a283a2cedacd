import { KnownBlocks } from "./known-blocks.ts";

/**
 * Who holds which blocks of a KV cache, and which are free. Free blocks are handed out lowest first, those that are
 * known after all others, least recently used first: the same calls give the same blocks.
 */
export class BlockPool {
  /** What full blocks hold. */
  readonly known = new KnownBlocks();
  /** Free blocks that are not known, highest first: the next one to hand out is last. */
  readonly #unknown: number[];
  /** How many hold each block. */
  readonly #holders: Int32Array;

  /** Blocks 0 to total - 1, all free. */
  constructor(total: number) {
    this.#unknown = Array.from({ length: total }, (_, index) => total - 1 - index);
    this.#holders = new Int32Array(total);
  }

  /** Blocks that nobody holds, known or not. */
  get free(): number {
    return this.#unknown.length + this.known.idle;
  }

  /** How many hold a block. */
  holders(block: number): number {
    return this.#holders[block] ?? 0;
  }

  /** So many free blocks, of which there are enough, each with one holder. Known ones that it takes become unknown. */
  take(count: number): number[] {
    while (this.#unknown.length < count) {
      const { oldest } = this.known;
      if (oldest === undefined) break;
      this.forget(oldest);
    }
    const blocks = this.#unknown.splice(this.#unknown.length - count).reverse();
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
    const freed: number[] = [];
    for (const block of blocks.toReversed()) {
      const holders = this.holders(block) - 1;
      this.#holders[block] = holders;
      if (holders > 0) continue;
      if (this.known.has(block)) this.known.rest(block);
      else freed.push(block);
    }
    this.#put(freed);
  }

  /** Makes a block unknown, and those that continue it. */
  forget(block: number): void {
    this.#put(this.known.forget(block));
  }

  /** Makes all blocks unknown. */
  forgetAll(): void {
    this.#put(this.known.forgetAll());
  }

  /** Puts unknown blocks that nobody holds among the free ones. */
  #put(blocks: readonly number[]): void {
    if (blocks.length === 0) return;
    for (const block of blocks) this.#unknown.push(block);
    this.#unknown.sort((a, b) => b - a);
  }
}
