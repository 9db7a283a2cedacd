// The transport of ranks that share one memory. Every word of the control block has one writer, and the rounds are told
// by progress words: publishing raises the rank's own by one (Atomics.store), after plain stores, and notifies it if a
// peer is parked on it. A rank that waits looks at its peers' words: it spins, yields the core, then parks. Progress
// words only grow and are compared by (a - b) | 0, so they may wrap around.

import { fromPlainError } from "../../errors/plain-error.ts";
import { SLICE_MS, type Transport } from "../transport.ts";
import { type ControlBlockLayout, type ControlBlockPlace, controlBlockLayout } from "./control-block.ts";
import { abortCause, abortGroup, isAborted } from "./group-abort.ts";
import type { RankStatus } from "./rank-status.ts";
import type { Waiting } from "./waiting.ts";

/** Spins between two looks at the abort word. */
const ABORT_CHECK_MASK = 15;

export class SharedMemoryTransport implements Transport {
  readonly rank: number;
  readonly size: number;
  readonly slices = undefined;
  /** The control block. */
  readonly words: Int32Array;
  readonly operandTable: number;
  readonly flightRing: number;
  readonly stagingBytes: number;
  parity: 0 | 1 = 1;
  readonly #layout: ControlBlockLayout;
  readonly #byteOffset: number;
  /** Global ranks, in group order. */
  readonly #ranks: readonly number[];
  readonly #status: RankStatus;
  readonly #waiting: Waiting;
  readonly #progressWords: readonly number[];
  readonly #ownProgressWord: number;
  readonly #ownSleeperWord: number;
  /** First words of all ranks' headers and staging areas, for both parities. */
  readonly #headers: readonly [readonly number[], readonly number[]];
  readonly #stagings: readonly [readonly number[], readonly number[]];
  #progress: number;
  #parkedAt = 0;

  /** `ranks`: global ranks, in group order; `globalRank` is one of them. `buffer` is the world's memory. */
  constructor(
    place: ControlBlockPlace,
    ranks: readonly number[],
    globalRank: number,
    buffer: ArrayBufferLike,
    status: RankStatus,
    waiting: Waiting,
  ) {
    const layout = controlBlockLayout(ranks.length, place.stagingBytes);
    this.rank = ranks.indexOf(globalRank);
    this.size = ranks.length;
    this.words = new Int32Array(buffer, place.byteOffset, layout.totalWords);
    this.operandTable = layout.operandTable(this.rank);
    this.flightRing = layout.flightRing(this.rank);
    this.stagingBytes = place.stagingBytes;
    this.#layout = layout;
    this.#byteOffset = place.byteOffset;
    this.#ranks = ranks;
    this.#status = status;
    this.#waiting = waiting;
    this.#progress = place.initialProgress;
    this.#progressWords = ranks.map((_, rank) => layout.progressWord(rank));
    this.#ownProgressWord = layout.progressWord(this.rank);
    this.#ownSleeperWord = layout.sleeperWord(this.rank);
    const ofAll = (word: (rank: number, parity: number) => number, parity: number): number[] =>
      ranks.map((_, rank) => word(rank, parity));
    this.#headers = [ofAll(layout.header, 0), ofAll(layout.header, 1)];
    this.#stagings = [ofAll(layout.staging, 0), ofAll(layout.staging, 1)];
  }

  addressOf(word: number): number {
    return this.#byteOffset + word * 4;
  }

  header(rank: number): number {
    return this.#headers[this.parity][rank] ?? 0;
  }

  staging(rank: number): number {
    return this.#stagings[this.parity][rank] ?? 0;
  }

  stagingAddress(rank: number, parity: 0 | 1): number {
    return this.addressOf(this.#stagings[parity][rank] ?? 0);
  }

  turn(): void {
    this.parity = this.parity === 0 ? 1 : 0;
  }

  /** Peers read where it was written. */
  fill(): void {}

  publish(): void {
    const words = this.words;
    this.#progress = (this.#progress + 1) | 0;
    Atomics.store(words, this.#ownProgressWord, this.#progress);
    if (Atomics.load(words, this.#ownSleeperWord) !== 0) {
      this.#waiting.spread?.wakes();
      Atomics.notify(words, this.#ownProgressWord);
    }
  }

  hasArrived(peer: number): boolean {
    return ((Atomics.load(this.words, this.#progressWords[peer] ?? 0) - this.#progress) | 0) >= 0;
  }

  spin(peer: number): boolean {
    const words = this.words;
    const word = this.#progressWords[peer] ?? 0;
    const target = this.#progress;
    const spins = this.#waiting.budget.spins;
    for (let spin = 0; spin < spins; spin++) {
      if (((Atomics.load(words, word) - target) | 0) >= 0) return true;
      if ((spin & ABORT_CHECK_MASK) === ABORT_CHECK_MASK && isAborted(words, this.#layout)) return false;
    }
    return false;
  }

  wait(peer: number, turn: number, now: number, until: number): number {
    if (turn === 0) {
      now = this.#yield(peer, now);
      if (this.hasArrived(peer)) return now;
      this.#parkedAt = now;
    }
    this.#park(peer, until - now);
    now = performance.now();
    if (this.hasArrived(peer)) {
      const { budget, spread } = this.#waiting;
      budget.parkedFor(now - this.#parkedAt);
      if (!budget.isHeld) spread?.wokenBy(this.#ranks[peer] ?? 0);
    }
    return now;
  }

  /**
   * Gives the core away between looks, for as long as the budget says: at once to a peer on the same core, else after
   * some looking on. Returns when it ended.
   */
  #yield(peer: number, from: number): number {
    const { budget, scheduler, spread } = this.#waiting;
    if (scheduler === undefined) return from;
    const globalPeer = this.#ranks[peer] ?? 0;
    const isShared = spread?.sharesCoreWith(globalPeer) ?? false;
    if (isShared && !budget.isHeld) spread?.partFrom(globalPeer);
    let now = isShared || budget.spinMs === 0 ? from : this.#spinOn(peer, from + budget.spinMs);
    const yieldFrom = now;
    while (!this.hasArrived(peer) && now - yieldFrom < budget.yieldMs && !isAborted(this.words, this.#layout)) {
      scheduler.yieldCore();
      const before = now;
      now = performance.now();
      budget.yieldedFor(now - before, now);
    }
    return now;
  }

  /** Looks on without giving the core away. Returns when it ended. */
  #spinOn(peer: number, until: number): number {
    for (;;) {
      const isDone = this.spin(peer) || isAborted(this.words, this.#layout);
      const now = performance.now();
      if (isDone || now >= until) return now;
    }
  }

  #park(peer: number, milliseconds: number): void {
    const words = this.words;
    const word = this.#progressWords[peer] ?? 0;
    const sleepers = this.#layout.sleeperWord(peer);
    // The sleeper is counted before the word is read again (Atomics.wait compares it once more): a peer that publishes
    // in between either is seen here or sees the sleeper and notifies.
    Atomics.add(words, sleepers, 1);
    const seen = Atomics.load(words, word);
    if (((seen - this.#progress) | 0) < 0 && milliseconds > 0 && !isAborted(words, this.#layout)) {
      Atomics.wait(words, word, seen, Math.min(milliseconds, SLICE_MS));
    }
    Atomics.sub(words, sleepers, 1);
  }

  async waitAsync(peer: number, now: number, until: number): Promise<number> {
    const words = this.words;
    const word = this.#progressWords[peer] ?? 0;
    const sleepers = this.#layout.sleeperWord(peer);
    Atomics.add(words, sleepers, 1);
    const seen = Atomics.load(words, word);
    if (((seen - this.#progress) | 0) < 0 && until > now && !isAborted(words, this.#layout)) {
      // The turn ends by a notify of its own: a waitAsync with a timeout keeps a core busy in Bun.
      const wait = Atomics.waitAsync(words, word, seen);
      if (wait.async) {
        const slice = setTimeout(() => Atomics.notify(words, word), until - now);
        await wait.value;
        clearTimeout(slice);
      }
    }
    Atomics.sub(words, sleepers, 1);
    return performance.now();
  }

  get isAborted(): boolean {
    return isAborted(this.words, this.#layout);
  }

  abort(cause: Error): void {
    abortGroup(this.words, this.#layout, this.rank, cause);
  }

  abortCause(): Error {
    return abortCause(this.words, this.#layout);
  }

  failureOf(peer: number): Error | undefined {
    const globalRank = this.#ranks[peer] ?? 0;
    return this.#status.hasLeft(globalRank) ? fromPlainError(this.#status.failure(globalRank)) : undefined;
  }

  nudge(): void {
    Atomics.notify(this.words, this.#ownProgressWord);
  }

  /** The control block is the host's. */
  close(): void {}
}
