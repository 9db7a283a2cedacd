// One rank's way through the collectives of one group, whatever carries them: begin, announce, wait for the peers,
// agree, move, end. What a transport leaves open is decided here: whether the ranks do the same thing, how long one
// waits, when waiting has become hopeless, what an abort means to whom, and what is recorded.

import { ResourceClosed } from "@lockstep/tensor";
import type { CollectiveTurn, Rounds } from "../collectives/rounds.ts";
import {
  CollectiveMismatch,
  type CollectiveSide,
  CollectiveTimeout,
  GroupAborted,
  GroupDestroyed,
  RankCrashed,
  ReentrantCollective,
} from "../errors/errors.ts";
import { printedValue } from "../errors/printed-value.ts";
import { FlightRecorder, type WorldClock } from "../flight-record/flight-ring.ts";
import { SLICE_MS, type Transport } from "../transport/transport.ts";
import { type CollectiveName, describeHeader, headersAgree, writeHeader } from "../wire/collective-header.ts";
import type { GroupSettings } from "./group-settings.ts";

/** How often a rank that closes its end of a group looks whether its last collective has come out, in milliseconds. */
const IDLE_POLL_MS = 2;

export class CollectiveRun implements CollectiveTurn, Disposable {
  readonly name: string;
  readonly rank: number;
  readonly size: number;
  readonly ranks: readonly number[];
  readonly stagedLimit: number;
  readonly stagedAllReduceLimit: number;
  readonly counters = { ops: 0, bytesReceived: 0, waitMs: 0 };
  readonly #transport: Transport;
  readonly #flight: FlightRecorder;
  readonly #defaultDeadlineMs: number;
  /** Number of the running collective. */
  #sequence = -1;
  #running: CollectiveName | undefined;
  #signature = 0;
  #shape: readonly number[] = [];
  #deadlineMs = 0;
  /** 0 until the first wait of a collective looks at the clock. */
  #deadlineAt = 0;
  /** Set once the transport is no longer this run's: it was closed, or why it was aborted before it was replaced. */
  #over: "closed" | Error | undefined;

  constructor(settings: GroupSettings, transport: Transport, clock: WorldClock) {
    this.name = settings.name;
    this.rank = transport.rank;
    this.size = transport.size;
    this.ranks = settings.ranks;
    this.stagedLimit = settings.stagedLimit;
    this.stagedAllReduceLimit = settings.stagedAllReduceLimit;
    this.#transport = transport;
    this.#flight = new FlightRecorder(transport.words, transport.flightRing, clock);
    this.#defaultDeadlineMs = settings.deadlineMs;
  }

  begin(
    op: CollectiveName,
    signature: number,
    shape: readonly number[],
    flags: number,
    deadlineMs: number | undefined,
  ): void {
    const transport = this.#transport;
    if (this.#running !== undefined) throw new ReentrantCollective(this.name, op, this.#running);
    if (this.#over !== undefined) throw this.#overError(op, this.#over);
    const next = this.#sequence + 1;
    if (transport.isAborted) throw this.#abortError(op, next, false);
    this.#sequence = next;
    this.#running = op;
    this.#deadlineMs = deadlineMs ?? this.#defaultDeadlineMs;
    this.#deadlineAt = 0;
    this.#signature = signature;
    this.#shape = shape;
    transport.turn();
    writeHeader(transport.words, transport.header(this.rank), signature, flags, shape);
  }

  /** Blocks through the rounds of a collective that has begun. */
  drive(rounds: Rounds): void {
    const transport = this.#transport;
    const { slices } = transport;
    try {
      this.#announce(rounds.bytesReceived);
      this.awaitPeers();
      this.#checkAgreement();
      let round = 0;
      let moves = slices !== undefined && rounds.transfer(0, slices);
      for (; ; round++) {
        if (moves) {
          slices?.exchange();
          this.awaitPeers();
        }
        if (!rounds.advance(round)) break;
        // Slices need no announcement of their own: who has them knows that their rank has come so far.
        moves = slices !== undefined && rounds.transfer(round + 1, slices);
        if (moves) continue;
        transport.publish();
        this.awaitPeers();
      }
      if (round > 0) this.#throwIfAborted();
    } catch (error) {
      this.#fail(error);
      throw error;
    }
    this.#end(rounds.bytesReceived);
  }

  /** {@link drive} for event loops. */
  async driveAsync(rounds: Rounds): Promise<void> {
    const transport = this.#transport;
    const { slices } = transport;
    try {
      this.#announce(rounds.bytesReceived);
      await this.#awaitPeersAsync();
      this.#checkAgreement();
      let round = 0;
      let moves = slices !== undefined && rounds.transfer(0, slices);
      for (; ; round++) {
        if (moves) {
          slices?.exchange();
          await this.#awaitPeersAsync();
        }
        if (!rounds.advance(round)) break;
        moves = slices !== undefined && rounds.transfer(round + 1, slices);
        if (moves) continue;
        transport.publish();
        await this.#awaitPeersAsync();
      }
      if (round > 0) this.#throwIfAborted();
    } catch (error) {
      this.#fail(error);
      throw error;
    }
    this.#end(rounds.bytesReceived);
  }

  /** Publishes the announcement of the running collective, which will bring `bytes` to this rank. */
  #announce(bytes: number): void {
    this.#flight.start(this.#sequence, this.#signature, this.#shape, bytes);
    this.#transport.publish();
  }

  /** Waits until every peer has published as many rounds as this rank. Throws a typed error when one will not. */
  awaitPeers(): void {
    const transport = this.#transport;
    const size = this.size;
    for (let step = 1; step < size; step++) {
      const peer = (this.rank + step) % size;
      if (!transport.hasArrived(peer)) this.#awaitPeer(peer);
    }
  }

  #awaitPeer(peer: number): void {
    const transport = this.#transport;
    if (transport.spin(peer)) return;
    const since = performance.now();
    if (this.#deadlineAt === 0) this.#deadlineAt = since + this.#deadlineMs;
    let now = since;
    try {
      for (let turn = 0; ; turn++) {
        now = transport.wait(peer, turn, now, Math.min(this.#deadlineAt, now + SLICE_MS));
        if (transport.hasArrived(peer)) return;
        this.#throwIfHopeless(peer, now);
      }
    } finally {
      this.counters.waitMs += now - since;
      this.#flight.isNow(now);
    }
  }

  async #awaitPeersAsync(): Promise<void> {
    const transport = this.#transport;
    for (let step = 1; step < this.size; step++) {
      const peer = (this.rank + step) % this.size;
      if (!transport.hasArrived(peer)) await this.#awaitPeerAsync(peer);
    }
  }

  async #awaitPeerAsync(peer: number): Promise<void> {
    const transport = this.#transport;
    const since = performance.now();
    if (this.#deadlineAt === 0) this.#deadlineAt = since + this.#deadlineMs;
    let now = since;
    try {
      for (;;) {
        now = await transport.waitAsync(peer, now, Math.min(this.#deadlineAt, now + SLICE_MS));
        if (transport.hasArrived(peer)) return;
        this.#throwIfHopeless(peer, now);
      }
    } finally {
      this.counters.waitMs += now - since;
      this.#flight.isNow(now);
    }
  }

  #throwIfHopeless(peer: number, now: number): void {
    const transport = this.#transport;
    const op = this.#running ?? "barrier";
    if (transport.isAborted) throw this.#abortError(op, this.#sequence, true);
    const failure = transport.failureOf(peer);
    if (failure !== undefined) {
      // It may have published just before it left.
      if (transport.hasArrived(peer)) return;
      this.abort(failure);
      throw this.#abortError(op, this.#sequence, true);
    }
    if (now < this.#deadlineAt) return;
    const missing = this.ranks.filter((_, rank) => !transport.hasArrived(rank));
    if (missing.length === 0) return;
    this.abort(
      this.#mismatch((rank) => transport.hasArrived(rank)) ??
        new CollectiveTimeout(this.name, op, this.#sequence, missing, this.#deadlineMs),
    );
    throw this.#abortError(op, this.#sequence, true);
  }

  /**
   * Throws when the group is aborted. For the end of a collective that read its peers' tensors: a peer that waited for
   * this rank's acknowledgement and was aborted meanwhile may have written to its tensor while this rank was still
   * reading it.
   */
  #throwIfAborted(): void {
    if (this.#transport.isAborted) throw this.#abortError(this.#running ?? "barrier", this.#sequence, true);
  }

  /** Throws {@link CollectiveMismatch} unless every rank announces the collective that this rank announces. */
  #checkAgreement(): void {
    const transport = this.#transport;
    this.#flight.moving();
    const mine = transport.header(this.rank);
    for (let rank = 0; rank < this.size; rank++) {
      if (rank === this.rank || headersAgree(transport.words, mine, transport.header(rank))) continue;
      this.disagree(this.#mismatch(() => true)?.sides ?? []);
    }
  }

  disagree(sides: readonly CollectiveSide[]): never {
    this.abort(new CollectiveMismatch(this.name, this.#sequence, sides));
    throw this.#abortError(this.#running ?? "barrier", this.#sequence, true);
  }

  /** The sides of a disagreement among the ranks that have arrived, or undefined when they agree. */
  #mismatch(hasArrived: (rank: number) => boolean): CollectiveMismatch | undefined {
    const transport = this.#transport;
    const { words } = transport;
    const sides: { header: number; ranks: number[] }[] = [];
    for (let rank = 0; rank < this.size; rank++) {
      if (!hasArrived(rank)) continue;
      const header = transport.header(rank);
      const side = sides.find((candidate) => headersAgree(words, candidate.header, header));
      if (side === undefined) sides.push({ header, ranks: [this.ranks[rank] ?? rank] });
      else side.ranks.push(this.ranks[rank] ?? rank);
    }
    if (sides.length < 2) return undefined;
    const described = sides.map(({ header, ranks }) => ({ ranks, description: describeHeader(words, header) }));
    return new CollectiveMismatch(this.name, this.#sequence, described);
  }

  /** Ends the running collective. */
  #end(bytesReceived: number): void {
    this.#running = undefined;
    this.#flight.done();
    this.counters.ops++;
    this.counters.bytesReceived += bytesReceived;
  }

  /** Ends the running collective after an error: peers must not wait for a rank that gave up in the middle. */
  #fail(error: unknown): void {
    this.#running = undefined;
    this.#flight.failed();
    if (this.#transport.isAborted) return;
    const rank = this.ranks[this.rank] ?? this.rank;
    this.abort(new RankCrashed(rank, printedValue(error), error));
  }

  /**
   * Waits until no collective is under way. An asynchronous one of an aborted group comes out within one slice of its
   * wait.
   */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await new Promise((resolve) => setTimeout(resolve, IDLE_POLL_MS));
  }

  /**
   * Closes this rank's end: it gives the transport back, and every collective throws `ResourceClosed` from then on.
   * Only while none is under way. Idempotent.
   */
  [Symbol.dispose](): void {
    this.#leave("closed");
  }

  /** The same for an aborted group in whose place a newer one has come: its collectives throw as they did before. */
  supersede(): void {
    const replaced = (): Error => new GroupDestroyed(this.name, "a newer group of the same name took its place");
    this.#leave(this.#transport.isAborted ? this.#transport.abortCause() : replaced());
  }

  #leave(over: "closed" | Error): void {
    if (this.#over !== undefined) {
      if (over === "closed") this.#over = over;
      return;
    }
    this.#over = over;
    this.#transport.close();
  }

  /** Aborts the group in this rank's name. */
  abort(cause: Error): void {
    if (this.#over !== undefined) return;
    this.#transport.abort(cause);
  }

  /** True when no collective of this group can complete any more. */
  get isAborted(): boolean {
    return this.#over !== undefined || this.#transport.isAborted;
  }

  /** Wakes peers that wait for this rank, to look at its health. */
  nudgePeers(): void {
    this.#transport.nudge();
  }

  /** What the rank has to throw once its end is closed or replaced. */
  #overError(op: CollectiveName, over: "closed" | Error): Error {
    if (over !== "closed") return new GroupAborted(this.name, op, [], over);
    return new ResourceClosed(`group.${op}`, `group "${this.name}"`, "Have the host create a new one.");
  }

  /**
   * What the rank has to throw once the group is aborted: the timeout or mismatch itself when it was part of that
   * collective, else {@link GroupAborted}. A collective that comes when the host has destroyed the group finds it
   * closed.
   */
  #abortError(op: CollectiveName, sequence: number, hasArrived: boolean): Error {
    const cause = this.#transport.abortCause();
    const globalRank = this.ranks[this.rank] ?? 0;
    if (cause instanceof GroupDestroyed && !hasArrived) return this.#overError(op, "closed");
    if (cause instanceof CollectiveMismatch && cause.sequence === sequence) return cause;
    if (cause instanceof CollectiveTimeout) {
      if (hasArrived && cause.sequence === sequence && !cause.missing.includes(globalRank)) return cause;
      return new GroupAborted(this.name, op, cause.missing, cause);
    }
    return new GroupAborted(this.name, op, cause instanceof RankCrashed ? [cause.rank] : [], cause);
  }
}
