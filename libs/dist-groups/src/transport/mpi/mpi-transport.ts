// The transport of ranks in several processes. Ranks of one process read each other's announcements and tensors where
// they lie (local-peers.ts); those of other processes get copies by messages (remote-peers.ts). Both kinds go through
// the same rounds, so every rank has come as far as it says, whichever way it says so.
//
// Nothing blocks in the library, and nobody wakes a rank: it polls, with the core given away in between, then sleeps
// for longer and longer, up to a millisecond.

import type { SharedHeap } from "@lockstep/tensor";
import type { SliceExchange, Transport } from "../transport.ts";
import { type AnnouncementRooms, announcementRooms, LINE_WORDS, ROUND_WORD } from "./announcement-rooms.ts";
import type { FlightDirectory } from "./flight-directory.ts";
import type { Mpi } from "./library/mpi.ts";
import { LocalPeers } from "./local-peers.ts";
import type { PollingWait } from "./polling-wait.ts";
import type { RankMailbox } from "./rank-mailbox.ts";
import { RemotePeers } from "./remote-peers.ts";
import { SharedSlices } from "./shared-slices.ts";
import type { RankHome } from "./tags.ts";

/** Looks at a peer between two looks at the mailbox, and collectives between two. */
const MAILBOX_MASK = 31;

/** What a group goes through. Plain data, the same on every rank. */
export interface MpiPlace {
  /** Number of the group among all groups of the job. */
  readonly channel: number;
  /** Where its ranks live, in group order. */
  readonly homes: readonly RankHome[];
  readonly stagingBytes: number;
  /** Rounds count from here. */
  readonly initialProgress: number;
  /** Byte offset of the group's block in the blocks of every process. */
  readonly block: number;
}

/** What a rank's groups share. */
export interface MpiEndpoint {
  readonly mpi: Mpi;
  readonly mailbox: RankMailbox;
  readonly waiting: PollingWait;
  /** Where the transport lays its rooms, and where slices land. */
  readonly heap: SharedHeap;
  readonly directory: FlightDirectory;
  /** Byte offset of the blocks of groups in the memory of the rank's process. */
  readonly blocksStart: number;
}

export class MpiTransport implements Transport, SliceExchange {
  readonly rank: number;
  readonly size: number;
  readonly channel: number;
  readonly slices: SliceExchange = this;
  /** Those of the process's memory: peers announce all over it. */
  readonly words: Int32Array;
  readonly operandTable: number;
  readonly flightRing: number;
  readonly stagingBytes: number;
  parity: 0 | 1 = 1;
  readonly #endpoint: MpiEndpoint;
  readonly #local: LocalPeers;
  readonly #remote: RemotePeers;
  readonly #shared: SharedSlices;
  /** Global ranks, in group order, and those of other processes. */
  readonly #ranks: readonly number[];
  readonly #remoteRanks: readonly number[];
  /** Byte offset of this rank's own rooms. */
  readonly #roomsOffset: number;
  /** First words of all ranks' announcements, for both parities. */
  readonly #places: readonly [readonly number[], readonly number[]];
  #published: number;
  #filled = 0;
  #looks = 0;
  #cause: Error | undefined;

  /** `ranks`: global ranks, in group order; `globalRank` is one of them. */
  constructor(place: MpiPlace, ranks: readonly number[], globalRank: number, endpoint: MpiEndpoint) {
    const { channel, stagingBytes, homes } = place;
    const { heap, mpi } = endpoint;
    this.rank = ranks.indexOf(globalRank);
    this.size = ranks.length;
    this.channel = channel;
    this.stagingBytes = stagingBytes;
    this.words = new Int32Array(heap.buffer);
    this.#published = place.initialProgress;
    this.#endpoint = endpoint;
    this.#ranks = ranks;
    this.#remote = new RemotePeers(mpi, heap, this.words, place, this.rank);
    this.#remoteRanks = this.#remote.ranks.map((peer) => ranks[peer] ?? 0);
    const rooms = announcementRooms(this.size, this.#remoteRanks.length, stagingBytes);
    this.#roomsOffset = heap.allocate(rooms.totalWords * 4);
    this.#clear(rooms);
    const firstRoom = this.#roomsOffset / 4;
    this.operandTable = firstRoom + rooms.operandTable;
    this.flightRing = firstRoom + rooms.flightRing;
    const firstWord = (endpoint.blocksStart + place.block) / 4;
    this.#local = new LocalPeers(this.words, { ...place, firstWord, roomsWord: firstRoom }, this.rank);
    this.#shared = new SharedSlices(this.words, homes, this.rank, firstRoom, this.#local, this.#remote);
    const inOrder = this.#remote.ranks.toSorted((a, b) => a - b);
    const places = (parity: 0 | 1): number[] =>
      homes.map((_, peer) => {
        // The same order on all ranks of the process: they find records in each other's rooms.
        const index = inOrder.indexOf(peer);
        return index < 0 ? this.#local.place(peer, parity) : firstRoom + rooms.place(index, parity);
      });
    this.#places = [places(0), places(1)];
    endpoint.directory.add(channel, this.addressOf(this.flightRing));
    endpoint.mailbox.enter(this);
  }

  /** Staging areas stay out of resident memory until used. */
  #clear(rooms: AnnouncementRooms): void {
    const first = this.#roomsOffset / 4;
    this.words.fill(0, first, first + rooms.place(0, 0));
    for (let index = 0; index < this.#remoteRanks.length; index++) {
      for (const parity of [0, 1] as const) {
        const place = first + rooms.place(index, parity);
        this.words.fill(0, place, place + LINE_WORDS);
      }
    }
  }

  addressOf(word: number): number {
    return word * 4;
  }

  header(rank: number): number {
    return this.#places[this.parity][rank] ?? 0;
  }

  staging(rank: number): number {
    return this.header(rank) + LINE_WORDS;
  }

  stagingAddress(rank: number, parity: 0 | 1): number {
    return this.addressOf((this.#places[parity][rank] ?? 0) + LINE_WORDS);
  }

  /** Rounds that this rank has published. */
  get published(): number {
    return this.#published;
  }

  turn(): void {
    this.#remote.turn();
    this.parity = this.parity === 0 ? 1 : 0;
    this.#filled = 0;
  }

  fill(bytes: number): void {
    this.#filled = bytes;
  }

  publish(): void {
    this.#published = (this.#published + 1) | 0;
    const place = this.header(this.rank);
    const { ranks } = this.#remote;
    for (const peer of ranks) this.#remote.receive(peer, this.header(peer));
    this.words[place + ROUND_WORD] = this.#published;
    this.#local.publish(this.#published);
    if (ranks.length > 0) this.#remote.send(place, this.#filled);
    this.#filled = 0;
  }

  hasArrived(peer: number): boolean {
    if (this.#local.has(peer)) return this.#local.hasPublished(peer, this.#published);
    const hasArrived = this.#remote.hasArrived(peer, this.header(peer), this.#published);
    this.#shared.tellLanded(this.#published);
    return hasArrived && this.#shared.hasLanded(peer, this.#published);
  }

  spin(peer: number): boolean {
    const { spins } = this.#endpoint.waiting;
    for (let spin = 0; spin < spins; spin++) if (this.hasArrived(peer)) return true;
    return false;
  }

  wait(peer: number, turn: number, now: number, until: number): number {
    const { waiting } = this.#endpoint;
    let time = now;
    if (turn === 0) waiting.begin(now);
    while (time < until && !this.hasArrived(peer) && !this.#isHopeless(peer)) {
      waiting.pause(time);
      time = performance.now();
    }
    return time;
  }

  async waitAsync(peer: number, now: number, until: number): Promise<number> {
    const { waiting } = this.#endpoint;
    let time = now;
    while (time < until && !this.hasArrived(peer) && !this.#isHopeless(peer)) {
      await waiting.pauseAsync(time - now);
      time = performance.now();
    }
    return time;
  }

  #isHopeless(peer: number): boolean {
    this.#endpoint.mailbox.poll();
    this.#shared.tellLanded(this.#published);
    return this.isAborted || this.failureOf(peer) !== undefined;
  }

  /** Ranks of this process read the tensor where it lies. */
  give(peer: number, record: number, axis: number, start: number, count: number): void {
    if (!this.#local.has(peer)) this.#remote.give(peer, record, axis, start, count);
  }

  take(peer: number, record: number, axis: number, start: number, count: number): void {
    if (!this.#local.has(peer)) this.#remote.take(peer, record, axis, start, count);
  }

  share(record: number, axis: number, start: number, count: number): void {
    this.#remote.share(record, axis, start, count);
  }

  takeShared(peer: number, record: number, axis: number, start: number, count: number): void {
    if (!this.#local.has(peer)) this.#shared.take(peer, record, axis, start, count);
  }

  /**
   * Slices are on their way since they were given and taken: to other processes a round without a message of its own.
   * Ranks of this process see that this one has come so far.
   */
  exchange(): void {
    this.#published = (this.#published + 1) | 0;
    this.#local.publish(this.#published);
  }

  get isAborted(): boolean {
    if (this.#cause === undefined && (this.size === 1 || (++this.#looks & MAILBOX_MASK) === 0)) {
      this.#endpoint.mailbox.poll();
    }
    this.#cause ??= this.#local.abortCause();
    return this.#cause !== undefined;
  }

  abort(cause: Error): void {
    const { mailbox } = this.#endpoint;
    mailbox.poll();
    if (this.isAborted) return;
    this.aborted(cause);
    mailbox.tellAbort(this.channel, this.#remoteRanks, cause);
  }

  /** The group is aborted. Ranks of this process learn of it before a collective of this one throws. */
  aborted(cause: Error): void {
    this.#cause ??= cause;
    this.#local.tellAbort(this.#cause);
  }

  abortCause(): Error {
    return this.#cause ?? new Error("the group is not aborted");
  }

  failureOf(peer: number): Error | undefined {
    const { mailbox } = this.#endpoint;
    const failure = mailbox.failureOf(this.#ranks[peer] ?? 0, this.channel, this.#published);
    const lander = this.#shared.awaitedLander(peer);
    if (failure !== undefined || lander === undefined) return failure;
    return mailbox.failureOf(this.#ranks[lander] ?? 0, this.channel, this.#published);
  }

  /** Peers poll. */
  nudge(): void {}

  /** Ends this rank's part. The group's block is the leader's to give back; the rooms go, unless MPI still has them. */
  close(): void {
    const { heap, mailbox, directory } = this.#endpoint;
    mailbox.leave(this);
    directory.remove(this.channel);
    if (this.#remote.close()) heap.release(this.#roomsOffset);
  }
}
