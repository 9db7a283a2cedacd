// The leader's end of a world whose ranks are in several processes: what it knows of their health, by their news, and
// what it tells them.

import type { SharedHeap } from "@lockstep/tensor";
import { type PlainError, toPlainError } from "../../errors/plain-error.ts";
import { FLIGHT_RING_WORDS } from "../../flight-record/flight-ring.ts";
import type { HostGroup, HostHealth, HostTransport } from "../world-transport.ts";
import { encodeMessage, type RankMessage, type RankNews } from "./messages.ts";
import type { MpiPlace } from "./mpi-transport.ts";
import type { Outbox } from "./post.ts";
import { processBlockBytes } from "./process-block.ts";
import { type RankHome, rankTag } from "./tags.ts";

/** What the leader's end needs of its process. */
export interface MpiHostOptions {
  /** Number of the world in the job. */
  readonly world: number;
  /** When the world opened, by `Date.now()`. */
  readonly openedAt: number;
  /** Where the ranks live. */
  readonly homes: readonly RankHome[];
  readonly stagingBytes: number;
  /** Where rounds start counting. */
  readonly initialProgress: number;
  readonly outbox: Outbox;
  /**
   * This process's range of blocks of groups. Those of the other processes are as large; a group's block lies at the same
   * offset of each.
   */
  readonly blocks: SharedHeap;
  /** The number of the next group of the job. */
  nextChannel(): number;
  /** Copies the present flight ring of a rank of this process, if it is one and has one. */
  copyRing(rank: number, channel: number, to: Int32Array): void;
  /** Sets the coarse clock of this process's ranks; other processes have their own. */
  tick(): void;
}

/** One group, as the leader has it. */
class MpiHostGroup implements HostGroup {
  readonly place: MpiPlace;
  isAborted = false;
  readonly flightRing = (place: number): number => place * FLIGHT_RING_WORDS;
  readonly #words: Int32Array;
  readonly #ranks: readonly number[];
  readonly #options: MpiHostOptions;
  readonly #tell: (ranks: readonly number[], message: RankMessage) => void;
  readonly #forget: (channel: number) => void;

  constructor(
    ranks: readonly number[],
    options: MpiHostOptions,
    tell: (ranks: readonly number[], message: RankMessage) => void,
    forget: (channel: number) => void,
  ) {
    const homes = ranks.map((rank) => options.homes[rank] ?? { process: 0, worker: 0 });
    const { blocks, stagingBytes } = options;
    this.place = {
      channel: options.nextChannel(),
      homes,
      stagingBytes,
      initialProgress: options.initialProgress,
      block: blocks.allocate(processBlockBytes(homes, stagingBytes)) - blocks.start,
    };
    this.#ranks = ranks;
    this.#options = options;
    this.#tell = tell;
    this.#forget = forget;
    this.#words = new Int32Array(ranks.length * FLIGHT_RING_WORDS);
  }

  /** The rings, those of this process's ranks as they are now. */
  get words(): Int32Array {
    for (const [place, rank] of this.#ranks.entries()) {
      this.#options.copyRing(rank, this.place.channel, this.#ringOf(place));
    }
    return this.#words;
  }

  #ringOf(place: number): Int32Array {
    return this.#words.subarray(this.flightRing(place), this.flightRing(place + 1));
  }

  /** A ring of a rank of another process came. */
  takeRing(rank: number, ring: Int32Array): void {
    const place = this.#ranks.indexOf(rank);
    if (place >= 0) this.#ringOf(place).set(ring);
  }

  abort(cause: Error): void {
    if (this.isAborted) return;
    this.isAborted = true;
    this.#tell(this.#ranks, { kind: "abort", channel: this.place.channel, cause: toPlainError(cause) });
  }

  release(): void {
    const { blocks } = this.#options;
    blocks.release(blocks.start + this.place.block);
    this.#forget(this.place.channel);
  }
}

interface KnownRank {
  era: number;
  left: { readonly era: number; readonly failure: PlainError } | undefined;
  /** The era in which it last answered that it failed. */
  failed: number | undefined;
  exit: PlainError | undefined;
  running: number;
  beats: number;
}

export class MpiHost implements HostTransport, HostHealth {
  readonly health: HostHealth = this;
  readonly #options: MpiHostOptions;
  readonly #groups = new Map<number, MpiHostGroup>();
  readonly #ranks: readonly KnownRank[];
  /** Undefined while all are the first. */
  #eras: readonly number[] | undefined;
  /** What to add to this thread's `performance.now()`. */
  readonly #clockOffset: number;

  constructor(options: MpiHostOptions) {
    this.#options = options;
    this.#clockOffset = Date.now() - options.openedAt - performance.now();
    this.#ranks = options.homes.map(() => ({
      era: 0,
      left: undefined,
      failed: undefined,
      exit: undefined,
      running: 0,
      beats: 0,
    }));
  }

  /** The eras of all ranks. */
  get news(): readonly number[] | undefined {
    return this.#eras;
  }

  open(ranks: readonly number[]): HostGroup {
    const tell = (members: readonly number[], message: RankMessage): void => this.#tell(members, message);
    const group = new MpiHostGroup(ranks, this.#options, tell, (channel) => this.#groups.delete(channel));
    this.#groups.set(group.place.channel, group);
    return group;
  }

  /** What a rank has told. */
  take(news: RankNews): void {
    if (news.kind === "abort") {
      const group = this.#groups.get(news.channel);
      if (group !== undefined) group.isAborted = true;
      return;
    }
    const rank = this.#ranks[news.rank];
    if (rank === undefined) return;
    if (news.kind === "exit") rank.exit ??= news.failure;
    else if (news.kind === "left") rank.left = { era: news.era, failure: news.failure };
    else {
      rank.running = news.running;
      rank.beats = news.beats;
    }
  }

  /** A flight ring of a rank of another process came. */
  takeRing(rank: number, channel: number, ring: Int32Array): void {
    this.#groups.get(channel)?.takeRing(rank, ring);
  }

  #tell(ranks: Iterable<number>, message: RankMessage): void {
    const bytes = encodeMessage(this.#options.world, message);
    for (const rank of ranks) {
      const home = this.#options.homes[rank];
      if (home !== undefined) this.#options.outbox.send(bytes, home.process, rankTag(home.worker));
    }
  }

  #tellAll(message: RankMessage): void {
    this.#tell(this.#ranks.keys(), message);
  }

  worldTime(now: number): number {
    return Math.max(0, Math.round(now + this.#clockOffset));
  }

  coarseTime(): number {
    return this.worldTime(performance.now());
  }

  exit(rank: number, error: unknown): void {
    const known = this.#ranks[rank];
    if (known === undefined) return;
    known.exit ??= toPlainError(error);
    this.#tellAll({ kind: "exit", rank, failure: known.exit });
  }

  hasExited(rank: number): boolean {
    return this.#ranks[rank]?.exit !== undefined;
  }

  close(): void {
    this.#tellAll({ kind: "closed" });
  }

  tick(): void {
    this.#options.tick();
  }

  nextEpoch(): void {
    for (const rank of this.#ranks) rank.era++;
    this.#tellEras();
  }

  failed(rank: number): void {
    const known = this.#ranks[rank];
    if (known !== undefined) known.failed = known.era;
  }

  forgive(rank: number): void {
    const known = this.#ranks[rank];
    if (known === undefined || Math.max(known.failed ?? -1, known.left?.era ?? -1) < known.era) return;
    known.era++;
    this.#tellEras();
  }

  #tellEras(): void {
    this.#eras = this.#ranks.map(({ era }) => era);
    this.#tellAll({ kind: "eras", eras: this.#eras });
  }

  failure(rank: number): PlainError {
    const known = this.#ranks[rank];
    return known?.exit ?? known?.left?.failure ?? toPlainError(new Error("it did not fail"));
  }

  postCall(): void {}

  /** A call that was posted is on its way to other processes and counts as begun. */
  cancelCall(): boolean {
    return false;
  }

  heartbeat(rank: number): number {
    return this.#ranks[rank]?.beats ?? 0;
  }

  running(rank: number): number {
    return this.#ranks[rank]?.running ?? 0;
  }
}
