// What one rank knows of its peers' health and of aborts: messages outside its groups, taken while it waits, and at
// every call of the host.
//
// A rank that failed is out until its era ends: the leader raises the eras of all ranks when every call has come out,
// and that of one rank when it begins its next call. A message about an earlier era says nothing any more; one about an
// era that this rank has not heard of yet is kept. Messages of different senders come in any order, so a call brings
// the eras of its beginning along: no call falls with what failed before it.

import { fromPlainError, type PlainError, toPlainError } from "../../errors/plain-error.ts";
import type { Mpi } from "./library/mpi.ts";
import { decodeRankMessage, encodeMessage, type RankLeft, type RankMessage, type RankNews } from "./messages.ts";
import { Inbox, type LetterRoom, Outbox } from "./post.ts";
import { NEWS_TAG, type RankHome, rankTag } from "./tags.ts";

/** The process of the leader. */
const LEADER = 0;

/** What the mailbox needs of this rank's end of a group. */
export interface MailedGroup {
  readonly channel: number;
  /** Rounds that this rank has published. */
  readonly published: number;
  /** Somebody else aborted the group. */
  aborted(cause: Error): void;
}

export class RankMailbox {
  readonly #world: number;
  readonly #rank: number;
  readonly #homes: readonly RankHome[];
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  readonly #groups = new Map<number, MailedGroup>();
  /** Aborts of groups that this rank has not joined yet. */
  readonly #earlyAborts = new Map<number, Error>();
  readonly #left = new Map<number, RankLeft>();
  readonly #exited = new Map<number, PlainError>();
  #eras: readonly number[];
  #isClosed = false;

  /** `homes`: of all ranks of the world. `world` is its number in the job, `room` where letters lie. */
  constructor(world: number, rank: number, homes: readonly RankHome[], mpi: Mpi, room: LetterRoom) {
    this.#world = world;
    this.#rank = rank;
    this.#homes = homes;
    this.#inbox = new Inbox(mpi, room, rankTag(homes[rank]?.worker ?? 0));
    this.#outbox = new Outbox(mpi, room);
    this.#eras = homes.map(() => 0);
  }

  /** A group of this rank begins. */
  enter(group: MailedGroup): void {
    this.#groups.set(group.channel, group);
    const cause = this.#earlyAborts.get(group.channel);
    if (cause !== undefined) group.aborted(cause);
  }

  /** This rank's part in a group is over. */
  leave({ channel }: MailedGroup): void {
    this.#groups.delete(channel);
    this.#earlyAborts.delete(channel);
  }

  /** Takes what has come. */
  poll(): void {
    for (;;) {
      const letter = this.#inbox.poll();
      if (letter === undefined) return;
      const message = decodeRankMessage(letter.bytes);
      if (message.world === this.#world) this.#take(message);
    }
  }

  #take(message: RankMessage): void {
    if (message.kind === "closed") this.#isClosed = true;
    else if (message.kind === "eras") this.hearEras(message.eras);
    else if (message.kind === "left") this.#left.set(message.rank, message);
    else if (message.kind === "exit") this.#exited.set(message.rank, message.failure);
    else {
      const cause = fromPlainError(message.cause);
      const group = this.#groups.get(message.channel);
      if (group === undefined) this.#earlyAborts.set(message.channel, cause);
      else group.aborted(cause);
    }
  }

  /** Eras only rise. They come by a message of their own, and before every call: the one may overtake the other. */
  hearEras(eras: readonly number[]): void {
    this.#eras = this.#eras.map((era, rank) => Math.max(era, eras[rank] ?? 0));
  }

  get isClosed(): boolean {
    this.poll();
    return this.#isClosed;
  }

  hasExited(rank: number): boolean {
    return this.#exited.has(rank);
  }

  /** Why a peer will not publish round `published` of a group, or undefined while it may. */
  failureOf(rank: number, channel: number, published: number): Error | undefined {
    const left = this.#left.get(rank);
    // What it published before it left is on its way.
    const last = left?.published[channel];
    const isComing = last !== undefined && ((last - published) | 0) >= 0;
    if (isComing) return undefined;
    const exit = this.#exited.get(rank);
    if (exit !== undefined) return fromPlainError(exit);
    return left !== undefined && left.era >= (this.#eras[rank] ?? 0) ? fromPlainError(left.failure) : undefined;
  }

  /** Tells ranks of a group, and the leader, that this rank aborted it. */
  tellAbort(channel: number, ranks: readonly number[], cause: Error): void {
    this.#tell({ kind: "abort", channel, cause: toPlainError(cause) }, ranks);
  }

  /** Tells everybody that this rank failed. Only the first failure of an era counts. */
  tellLeft(failure: PlainError): void {
    this.poll();
    const era = this.#eras[this.#rank] ?? 0;
    if (this.#left.get(this.#rank)?.era === era) return;
    const published = Object.fromEntries([...this.#groups].map(([channel, group]) => [channel, group.published]));
    const left: RankLeft = { kind: "left", rank: this.#rank, era, failure, published };
    this.#left.set(this.#rank, left);
    this.#tell(left, this.#homes.keys());
  }

  /** Tells everybody that this rank is about to end. */
  tellExit(failure: PlainError): void {
    if (this.#exited.has(this.#rank)) return;
    this.#exited.set(this.#rank, failure);
    this.#tell({ kind: "exit", rank: this.#rank, failure }, this.#homes.keys());
  }

  #tell(message: Exclude<RankMessage, { kind: "eras" | "closed" }>, ranks: Iterable<number>): void {
    const bytes = encodeMessage(this.#world, message);
    for (const rank of ranks) {
      const home = this.#homes[rank];
      if (rank !== this.#rank && home !== undefined) this.#outbox.send(bytes, home.process, rankTag(home.worker));
    }
    this.#news(message);
  }

  /** Tells the leader how this rank fares. */
  tellHealth(running: number, beats: number): void {
    this.#news({ kind: "health", rank: this.#rank, running, beats });
  }

  #news(news: RankNews): void {
    this.#outbox.send(encodeMessage(this.#world, news), LEADER, NEWS_TAG);
  }
}
