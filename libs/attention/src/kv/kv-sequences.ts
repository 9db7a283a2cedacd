import { type KvShard, kvWeightSum, localLength, type PagedCacheSize } from "@lockstep/kernels";
import type { SharedHeap } from "@lockstep/tensor";
import { type BlockCounts, BlockManager, type Reservation } from "./block-manager.ts";
import type { ContextImage } from "./context-image.ts";
import type { KvCaches } from "./kv-caches.ts";
import {
  type GiveBlock,
  giveBlocks,
  listPrefixes,
  type PendingPrefixes,
  type PrefixBlock,
  type TakeBlock,
  takeBlocks,
} from "./prefix-transfer.ts";
import { planStep, type StepItem, type StepPlan } from "./step-plan.ts";

/** Blocks that all ranks of a context count alike. */
export interface SharedBlocks extends PagedCacheSize {
  /** What this rank stores of them. */
  readonly own: PagedCacheSize;
}

/** The sequences stored on one rank, and what the step under way has reserved for them. */
export class KvSequences {
  readonly #shard: KvShard;
  readonly #caches: KvCaches;
  readonly #own: PagedCacheSize;
  readonly #heap: SharedHeap;
  readonly #manager: BlockManager;
  readonly #live = new Set<number>();
  #plan: StepPlan | undefined;
  #reservation: Reservation | undefined;
  /** Copies of shared blocks that the backend has not completed yet. */
  #copying: Promise<void> | undefined;

  /** Block tables are allocated from `heap`. */
  constructor(shard: KvShard, caches: KvCaches, { numBlocks, blockSize, own }: SharedBlocks, heap: SharedHeap) {
    this.#shard = shard;
    this.#caches = caches;
    this.#own = own;
    this.#heap = heap;
    this.#manager = new BlockManager(numBlocks, blockSize * kvWeightSum(shard));
  }

  /** The step under way. */
  get plan(): StepPlan | undefined {
    return this.#plan;
  }

  /** Tokens that this rank stores, over all sequences. */
  get tokensHeld(): number {
    let tokens = 0;
    for (const sequence of this.#live) tokens += localLength(this.#shard, this.length(sequence));
    return tokens;
  }

  /** Bytes of the blocks in use, over all layers. */
  get bytesHeld(): number {
    return (this.#manager.totalBlocks - this.#manager.freeBlocks) * this.#caches.blockBytes;
  }

  /** Every sequence's tokens, over all ranks, in the order of the ids. */
  get lengths(): Map<number, number> {
    return new Map([...this.#live].sort((a, b) => a - b).map((sequence) => [sequence, this.length(sequence)]));
  }

  /**
   * Cuts sequences to these lengths, frees those without one, forgets all prefixes, and hands out ids from `next` on.
   * To be called between steps.
   */
  keep(lengths: ReadonlyMap<number, number>, next: number): void {
    this.forgetPrefixes();
    for (const sequence of [...this.#live]) {
      const length = lengths.get(sequence);
      if (length === undefined) this.free(sequence);
      else this.truncate(sequence, length);
    }
    this.#manager.nextSequence = next;
  }

  /** The id that the next sequence gets. */
  get next(): number {
    return this.#manager.nextSequence;
  }

  /** Who holds which blocks, and what is known of them. */
  get image(): ContextImage {
    return this.#manager.image;
  }

  /** Takes over what an image says, where there is nothing yet. */
  adopt(image: ContextImage): void {
    this.#manager.adopt(image);
    for (const { id } of image.sequences) this.#live.add(id);
  }

  create(): number {
    const sequence = this.#manager.createSequence();
    this.#live.add(sequence);
    return sequence;
  }

  fork(sequence: number): number {
    const fork = this.#manager.fork(sequence);
    this.#live.add(fork);
    return fork;
  }

  /** See `BlockManager`. */
  createFrom(ids: readonly number[]): { readonly sequence: number; readonly cached: number } {
    const created = this.#manager.createSequenceFrom(ids);
    this.#live.add(created.sequence);
    return created;
  }

  /** See `BlockManager`. */
  keepPrefix(sequence: number, ids: readonly number[]): void {
    this.#manager.keepPrefix(sequence, ids);
  }

  /** See `BlockManager`. */
  knownPrefix(ids: readonly number[]): number {
    return this.#manager.knownPrefix(ids);
  }

  /** See {@link listPrefixes}. */
  get prefixes(): PrefixBlock[] {
    return listPrefixes(this.#manager);
  }

  /** See {@link takeBlocks}. */
  takeBlocks(take: TakeBlock, most: number): Promise<void> {
    return takeBlocks(this.#manager, this.#caches, this.#heap, take, most);
  }

  /** See {@link giveBlocks}. */
  giveBlocks(blocks: readonly PrefixBlock[], give: GiveBlock): Promise<PendingPrefixes> {
    return giveBlocks(this.#manager, this.#caches, this.#heap, blocks, give);
  }

  forgetPrefixes(): void {
    this.#manager.forgetPrefixes();
  }

  get blocks(): BlockCounts {
    const { totalBlocks: total, freeBlocks: free, knownBlocks: known } = this.#manager;
    return { total, free, known };
  }

  /** Tokens stored over all ranks. */
  length(sequence: number): number {
    return this.#manager.get(sequence).length;
  }

  truncate(sequence: number, length: number): void {
    this.#manager.truncate(sequence, length);
  }

  free(sequence: number): void {
    this.#manager.free(sequence);
    this.#live.delete(sequence);
  }

  /**
   * Reserves the slots of a step's new tokens, copies shared blocks that they go to, and plans what its queries see.
   * @throws OutOfBlocks, ArgumentError, HeapExhausted: nothing is reserved then
   */
  begin(items: readonly StepItem[]): StepPlan {
    const reservation = this.#manager.extend(items);
    let plan: StepPlan | undefined;
    try {
      plan = planStep(items, this.#manager, this.#shard, this.#own, this.#heap);
      this.#copying = this.#caches.copyBlocks(reservation.copies);
      // Whoever uses the caches next awaits it; until then a failure must not count as unhandled.
      this.#copying?.catch(() => {});
    } catch (error) {
      plan?.blockTable.free();
      reservation.undo();
      throw error;
    }
    this.#reservation = reservation;
    this.#plan = plan;
    return plan;
  }

  /** To be awaited, if there is anything to await, before the caches are used in a step. */
  get copying(): Promise<void> | undefined {
    return this.#copying;
  }

  /** Ends the step, if there is one. */
  end(): void {
    this.#plan?.blockTable.free();
    this.#plan = undefined;
    this.#reservation = undefined;
    this.#copying = undefined;
  }

  /** Ends the step and takes back what it reserved. */
  cancel(): void {
    const reservation = this.#reservation;
    this.end();
    reservation?.undo();
  }
}
