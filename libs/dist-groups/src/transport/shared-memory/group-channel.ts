// One rank's end of a process group in shared memory. Every collective is a series of rounds. In a round a rank
//
//   1. writes what its peers shall read (its header and staging area; later, its own tensors) with plain stores,
//   2. publishes: raises its progress word by one (Atomics.store), and notifies it if a peer is parked on it,
//   3. waits until every peer's progress word has come as far: spins briefly, then parks in slices of at most 50 ms.
//
// Arriving is wait-free. Waiting is bounded by the deadline and by the group's abort word. Progress words only grow and
// are compared by (a - b) | 0, so they may wrap around.
//
// Headers and staging areas alternate with the sequence number. A rank that is in collective s has seen every peer arrive at
// s, so every peer has left s - 1; what it will write for s + 1 is what s - 1 used, which nobody reads any more.

import {
  CollectiveMismatch,
  type CollectiveSide,
  CollectiveTimeout,
  GroupAborted,
  GroupDestroyed,
  RankCrashed,
  ReentrantCollective,
} from "../../errors/errors.ts";
import { fromPlainError } from "../../errors/plain-error.ts";
import { printedValue } from "../../errors/printed-value.ts";
import { type ControlBlockLayout, controlBlockLayout, type GroupDescriptor } from "./control-block.ts";
import { FlightRecorder } from "../../flight-record/flight-ring.ts";
import { abortCause, abortGroup, isAborted } from "./group-abort.ts";
import type { RankStatus } from "./rank-status.ts";
import { type CollectiveName, describeHeader, headersAgree, writeHeader } from "../../wire/collective-header.ts";
import type { Waiting } from "./waiting.ts";

const LONGEST_PARK_MS = 50;
/** Spins between two looks at the abort word. */
const ABORT_CHECK_MASK = 15;

export class GroupChannel {
  readonly name: string;
  /** This rank's place in the group. */
  readonly rank: number;
  readonly size: number;
  /** Global ranks, in group order. */
  readonly ranks: readonly number[];
  readonly layout: ControlBlockLayout;
  /** The control block. */
  readonly words: Int32Array;
  /** Largest message, in bytes that a rank brings, that takes the staged protocol. The same on every rank. */
  readonly stagedLimit: number;
  readonly stagedAllReduceLimit: number;
  readonly counters = { ops: 0, bytesReceived: 0, waitMs: 0 };
  /** Number of the running collective. */
  sequence = -1;
  readonly #flight: FlightRecorder;
  readonly #byteOffset: number;
  readonly #status: RankStatus;
  readonly #waiting: Waiting;
  readonly #defaultDeadlineMs: number;
  readonly #progressWords: readonly number[];
  readonly #ownProgressWord: number;
  readonly #ownSleeperWord: number;
  /** First words of all ranks' headers and staging areas, for even and for odd sequence numbers. */
  readonly #headers: readonly [readonly number[], readonly number[]];
  readonly #stagings: readonly [readonly number[], readonly number[]];
  #progress: number;
  #running: CollectiveName | undefined;
  #signature = 0;
  #shape: readonly number[] = [];
  #deadlineMs = 0;
  /** 0 until the first wait of a collective looks at the clock. */
  #deadlineAt = 0;
  /** Set once the control block belongs to somebody else. */
  #retiredBy: Error | undefined;

  constructor(
    descriptor: GroupDescriptor,
    globalRank: number,
    buffer: ArrayBufferLike,
    status: RankStatus,
    waiting: Waiting,
  ) {
    this.name = descriptor.name;
    this.ranks = descriptor.ranks;
    this.size = descriptor.ranks.length;
    this.rank = descriptor.ranks.indexOf(globalRank);
    this.layout = controlBlockLayout(this.size, descriptor.stagingBytes);
    this.words = new Int32Array(buffer, descriptor.byteOffset, this.layout.totalWords);
    this.stagedLimit = descriptor.stagedLimit;
    this.stagedAllReduceLimit = descriptor.stagedAllReduceLimit;
    this.#byteOffset = descriptor.byteOffset;
    this.#status = status;
    this.#flight = new FlightRecorder(this.words, this.layout.flightRing(this.rank), status);
    this.#waiting = waiting;
    this.#defaultDeadlineMs = descriptor.deadlineMs;
    this.#progress = descriptor.initialProgress;
    this.#progressWords = descriptor.ranks.map((_, rank) => this.layout.progressWord(rank));
    this.#ownProgressWord = this.layout.progressWord(this.rank);
    this.#ownSleeperWord = this.layout.sleeperWord(this.rank);
    const { header, staging } = this.layout;
    const ofAll = (word: (rank: number, parity: number) => number, parity: number): number[] =>
      descriptor.ranks.map((_, rank) => word(rank, parity));
    this.#headers = [ofAll(header, 0), ofAll(header, 1)];
    this.#stagings = [ofAll(staging, 0), ofAll(staging, 1)];
  }

  /**
   * Starts a collective, whose staging area may be filled from now on, before {@link announce}. `signature`, `shape` and `flags`
   * make its header: see collective-header.ts.
   */
  begin(
    op: CollectiveName,
    signature: number,
    shape: readonly number[],
    flags: number,
    deadlineMs: number | undefined,
  ): void {
    if (this.#running !== undefined) throw new ReentrantCollective(this.name, op, this.#running);
    if (this.#retiredBy !== undefined) throw new GroupAborted(this.name, op, [], this.#retiredBy);
    const next = this.sequence + 1;
    if (isAborted(this.words, this.layout)) throw this.#abortError(op, next, false);
    this.sequence = next;
    this.#running = op;
    this.#deadlineMs = deadlineMs ?? this.#defaultDeadlineMs;
    this.#deadlineAt = 0;
    this.#signature = signature;
    this.#shape = shape;
    writeHeader(this.words, this.header(this.rank), signature, flags, shape);
  }

  /** First word of a rank's header for the running collective. */
  header(rank: number): number {
    return this.#headers[(this.sequence & 1) as 0 | 1][rank] ?? 0;
  }

  /** First word of a rank's staging area for the running collective. */
  staging(rank: number): number {
    return this.#stagings[(this.sequence & 1) as 0 | 1][rank] ?? 0;
  }

  /** Byte address, in the world's memory, of a rank's staging area for the running collective. */
  stagingAddress(rank: number): number {
    return this.addressOf(this.staging(rank));
  }

  /** Byte address of a word of the control block. */
  addressOf(word: number): number {
    return this.#byteOffset + word * 4;
  }

  /** Publishes the header and staging area of the running collective, which will bring `bytes` to this rank. */
  announce(bytes: number): void {
    this.#flight.start(this.sequence, this.#signature, this.#shape, bytes);
    this.publish();
  }

  /** Lets the peers read what this rank has written. */
  publish(): void {
    const words = this.words;
    this.#progress = (this.#progress + 1) | 0;
    Atomics.store(words, this.#ownProgressWord, this.#progress);
    if (Atomics.load(words, this.#ownSleeperWord) !== 0) {
      this.#waiting.spread?.wakes();
      Atomics.notify(words, this.#ownProgressWord);
    }
  }

  /** Waits until every peer has published as many rounds as this rank. Throws a typed error when one will not. */
  awaitPeers(): void {
    const words = this.words;
    const target = this.#progress;
    const size = this.size;
    for (let step = 1; step < size; step++) {
      const peer = (this.rank + step) % size;
      const word = this.#progressWords[peer] ?? 0;
      if (((Atomics.load(words, word) - target) | 0) < 0) this.#awaitPeer(peer, word, target);
    }
  }

  #awaitPeer(peer: number, word: number, target: number): void {
    const words = this.words;
    const { budget, scheduler, spread } = this.#waiting;
    for (let spin = 0; spin < budget.spins; spin++) {
      if (((Atomics.load(words, word) - target) | 0) >= 0) return;
      if ((spin & ABORT_CHECK_MASK) === ABORT_CHECK_MASK && isAborted(words, this.layout)) break;
    }
    const gaveUpAt = performance.now();
    if (this.#deadlineAt === 0) this.#deadlineAt = gaveUpAt + this.#deadlineMs;
    let now = gaveUpAt;
    try {
      if (scheduler !== undefined) {
        if (!budget.isHeld) spread?.waitedFor(this.ranks[peer] ?? 0);
        while (now - gaveUpAt < budget.yieldMs && !isAborted(words, this.layout)) {
          scheduler.yieldCore();
          const before = now;
          now = performance.now();
          budget.yieldedFor(now - before, now);
          if (((Atomics.load(words, word) - target) | 0) >= 0) return;
        }
      }
      const parkedAt = now;
      try {
        this.#park(peer, word, target);
      } finally {
        now = performance.now();
        this.#flight.lookAtClock();
        budget.parkedFor(now - parkedAt);
        if (!budget.isHeld) spread?.wokenBy(this.ranks[peer] ?? 0);
      }
    } finally {
      this.counters.waitMs += now - gaveUpAt;
    }
  }

  #park(peer: number, word: number, target: number): void {
    const words = this.words;
    const sleepers = this.layout.sleeperWord(peer);
    for (;;) {
      // The sleeper is counted before the word is read again (Atomics.wait compares it once more): a peer that publishes
      // in between either is seen here or sees the sleeper and notifies.
      Atomics.add(words, sleepers, 1);
      const seen = Atomics.load(words, word);
      const left = this.#deadlineAt - performance.now();
      if (((seen - target) | 0) < 0 && left > 0 && !isAborted(words, this.layout)) {
        Atomics.wait(words, word, seen, Math.min(left, LONGEST_PARK_MS));
      }
      Atomics.sub(words, sleepers, 1);
      if (((Atomics.load(words, word) - target) | 0) >= 0) return;
      this.#throwIfHopeless(peer, target);
    }
  }

  /**
   * Throws when the group is aborted. For the end of a collective that read its peers' tensors: a peer that waited for this
   * rank's acknowledgement and was aborted meanwhile may have written to its tensor while this rank was still reading it.
   */
  throwIfAborted(): void {
    if (isAborted(this.words, this.layout)) throw this.#abortError(this.#running ?? "barrier", this.sequence, true);
  }

  /** {@link awaitPeers} for event loops: parks in `Atomics.waitAsync`, in the same slices and with the same checks. */
  async awaitPeersAsync(): Promise<void> {
    const target = this.#progress;
    for (let step = 1; step < this.size; step++) {
      const peer = (this.rank + step) % this.size;
      if (!this.#hasReached(peer, target)) await this.#awaitPeerAsync(peer, target);
    }
  }

  async #awaitPeerAsync(peer: number, target: number): Promise<void> {
    const words = this.words;
    const word = this.#progressWords[peer] ?? 0;
    const sleepers = this.layout.sleeperWord(peer);
    const parkedAt = performance.now();
    if (this.#deadlineAt === 0) this.#deadlineAt = parkedAt + this.#deadlineMs;
    try {
      for (;;) {
        Atomics.add(words, sleepers, 1);
        const seen = Atomics.load(words, word);
        const left = this.#deadlineAt - performance.now();
        if (((seen - target) | 0) < 0 && left > 0 && !isAborted(words, this.layout)) {
          // The slice ends by a notify of its own: a waitAsync with a timeout keeps a core busy in Bun.
          const wait = Atomics.waitAsync(words, word, seen);
          if (wait.async) {
            const slice = setTimeout(() => Atomics.notify(words, word), Math.min(left, LONGEST_PARK_MS));
            await wait.value;
            clearTimeout(slice);
          }
        }
        Atomics.sub(words, sleepers, 1);
        if (this.#hasReached(peer, target)) return;
        this.#throwIfHopeless(peer, target);
      }
    } finally {
      this.counters.waitMs += performance.now() - parkedAt;
      this.#flight.lookAtClock();
    }
  }

  #throwIfHopeless(peer: number, target: number): void {
    const op = this.#running ?? "barrier";
    if (isAborted(this.words, this.layout)) throw this.#abortError(op, this.sequence, true);
    const globalRank = this.ranks[peer] ?? 0;
    if (this.#status.hasLeft(globalRank)) {
      // It may have published just before it left.
      if (this.#hasReached(peer, target)) return;
      this.abort(fromPlainError(this.#status.failure(globalRank)));
      throw this.#abortError(op, this.sequence, true);
    }
    if (performance.now() < this.#deadlineAt) return;
    const missing = this.ranks.filter((_, rank) => !this.#hasReached(rank, target));
    if (missing.length === 0) return;
    this.abort(
      this.#mismatch((rank) => this.#hasReached(rank, target)) ??
        new CollectiveTimeout(this.name, op, this.sequence, missing, this.#deadlineMs),
    );
    throw this.#abortError(op, this.sequence, true);
  }

  #hasReached(rank: number, target: number): boolean {
    return ((Atomics.load(this.words, this.#progressWords[rank] ?? 0) - target) | 0) >= 0;
  }

  /** Throws {@link CollectiveMismatch} unless every rank announces the collective that this rank announces. */
  checkAgreement(): void {
    this.#flight.moving();
    const mine = this.header(this.rank);
    for (let rank = 0; rank < this.size; rank++) {
      if (rank === this.rank || headersAgree(this.words, mine, this.header(rank))) continue;
      this.disagree(this.#mismatch(() => true)?.sides ?? []);
    }
  }

  /** Aborts the group because its ranks disagree, and throws. */
  disagree(sides: readonly CollectiveSide[]): never {
    this.abort(new CollectiveMismatch(this.name, this.sequence, sides));
    throw this.#abortError(this.#running ?? "barrier", this.sequence, true);
  }

  /** The sides of a disagreement among the ranks that have arrived, or undefined when they agree. */
  #mismatch(hasArrived: (rank: number) => boolean): CollectiveMismatch | undefined {
    const sides: { header: number; ranks: number[] }[] = [];
    for (let rank = 0; rank < this.size; rank++) {
      if (!hasArrived(rank)) continue;
      const header = this.header(rank);
      const side = sides.find((candidate) => headersAgree(this.words, candidate.header, header));
      if (side === undefined) sides.push({ header, ranks: [this.ranks[rank] ?? rank] });
      else side.ranks.push(this.ranks[rank] ?? rank);
    }
    if (sides.length < 2) return undefined;
    const described = sides.map(({ header, ranks }) => ({ ranks, description: describeHeader(this.words, header) }));
    return new CollectiveMismatch(this.name, this.sequence, described);
  }

  /** Ends the running collective. */
  end(bytesReceived: number): void {
    this.#running = undefined;
    this.#flight.done();
    this.counters.ops++;
    this.counters.bytesReceived += bytesReceived;
  }

  /** Ends the running collective after an error: peers must not wait for a rank that gave up in the middle. */
  fail(error: unknown): void {
    this.#running = undefined;
    this.#flight.failed();
    if (isAborted(this.words, this.layout)) return;
    const rank = this.ranks[this.rank] ?? this.rank;
    this.abort(new RankCrashed(rank, printedValue(error), error));
  }

  /**
   * Stops using the control block for good. An asynchronous collective that is under way comes out first: the group is
   * aborted, so within one slice of its wait.
   */
  async retire(): Promise<void> {
    while (this.#running !== undefined) await new Promise((resolve) => setTimeout(resolve, 2));
    this.#retiredBy ??= isAborted(this.words, this.layout)
      ? abortCause(this.words, this.layout)
      : new GroupDestroyed(this.name, "a newer group of the same name took its place");
  }

  /** Aborts the group in this rank's name. */
  abort(cause: Error): void {
    if (this.#retiredBy !== undefined) return;
    abortGroup(this.words, this.layout, this.rank, cause);
  }

  /** True when no collective of this group can complete any more. */
  get isAborted(): boolean {
    return this.#retiredBy !== undefined || isAborted(this.words, this.layout);
  }

  /** Wakes peers parked on this rank, to look at its status. */
  nudgePeers(): void {
    Atomics.notify(this.words, this.#ownProgressWord);
  }

  /**
   * What the rank has to throw once the group is aborted: the timeout or mismatch itself when it was part of that
   * collective, else {@link GroupAborted}.
   */
  #abortError(op: CollectiveName, sequence: number, hasArrived: boolean): Error {
    const cause = abortCause(this.words, this.layout);
    const globalRank = this.ranks[this.rank] ?? 0;
    if (cause instanceof CollectiveMismatch && cause.sequence === sequence) return cause;
    if (cause instanceof CollectiveTimeout) {
      if (hasArrived && cause.sequence === sequence && !cause.missing.includes(globalRank)) return cause;
      return new GroupAborted(this.name, op, cause.missing, cause);
    }
    return new GroupAborted(this.name, op, cause instanceof RankCrashed ? [cause.rank] : [], cause);
  }
}
