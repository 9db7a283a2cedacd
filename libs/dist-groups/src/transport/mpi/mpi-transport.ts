// The transport of ranks in several processes. Every rank has announcements of all ranks in rooms of its own; what a
// rank announces is copied once and sent to each peer, which has a receive posted for it where it belongs. Slices of
// tensors go straight from the tensor to where the peer lets them land.
//
// Which place a peer's next announcement goes to is known before it comes: a rank that enters round k has seen all
// peers in round k - 1, so the next message of each is that of round k, and ranks that agree have the same parity in
// it. Ranks that do not agree find that out in the round of their announcements, before anything else is received. A
// peer that is a round ahead waits in the library until this rank posts its next receives.
//
// A rank leaves a round only when what it gave in it has been taken: who has this rank's next round knows that nothing
// which this rank sent has changed on its way.
//
// Nothing blocks in the library, and nobody wakes a rank: it polls, with the core given away in between, then sleeps
// for longer and longer, up to a millisecond.

import type { SharedHeap } from "@lockstep/tensor";
import type { SliceExchange, Transport } from "../transport.ts";
import { AnnouncementPool } from "./announcement-pool.ts";
import { type AnnouncementRooms, announcementRooms, HEAD_BYTES, ROUND_WORD } from "./announcement-rooms.ts";
import type { FlightDirectory } from "./flight-directory.ts";
import type { Mpi } from "./library/mpi.ts";
import type { PollingWait } from "./polling-wait.ts";
import type { RankMailbox } from "./rank-mailbox.ts";
import { ANNOUNCEMENT, groupTag, type RankHome, SLICE } from "./tags.ts";
import { isPacked, leadToLanding, packSlice, tensorSlice } from "./tensor-slice.ts";

/** No request. */
const NONE = -1;
/** The longest message, in bytes: counts of the library are signed 32-bit integers. */
const LONGEST_MESSAGE = 2 ** 30;
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
}

/** What a rank's groups share. */
export interface MpiEndpoint {
  readonly mpi: Mpi;
  readonly mailbox: RankMailbox;
  readonly waiting: PollingWait;
  /** Where the transport lays its rooms, and where slices land. */
  readonly heap: SharedHeap;
  readonly directory: FlightDirectory;
}

export class MpiTransport implements Transport, SliceExchange {
  readonly rank: number;
  readonly size: number;
  readonly channel: number;
  readonly slices: SliceExchange = this;
  readonly words: Int32Array;
  readonly operandTable: number;
  readonly flightRing: number;
  readonly stagingBytes: number;
  parity: 0 | 1 = 1;
  /** Byte offset of the rooms in the rank's memory. */
  readonly byteOffset: number;
  readonly #endpoint: MpiEndpoint;
  readonly #mpi: Mpi;
  readonly #rooms: AnnouncementRooms;
  readonly #pool: AnnouncementPool;
  /** Global ranks, in group order. */
  readonly #ranks: readonly number[];
  /** By place in the group: the peer's process, and the tags of messages to it and from it. */
  readonly #processes: readonly number[];
  readonly #announcementsTo: readonly number[];
  readonly #announcementsFrom: readonly number[];
  readonly #slicesTo: readonly number[];
  readonly #slicesFrom: readonly number[];
  #published: number;
  /** Receives of the peers' announcements, and the slices that are on their way to and from them. */
  readonly #receives: number[];
  readonly #giving: number[][];
  readonly #taking: number[][];
  /** Byte addresses of what the running collective has allocated. */
  #allocated: number[] = [];
  #filled = 0;
  #looks = 0;
  #cause: Error | undefined;

  /** `ranks`: global ranks, in group order; `globalRank` is one of them. */
  constructor(place: MpiPlace, ranks: readonly number[], globalRank: number, endpoint: MpiEndpoint) {
    const { homes, channel, stagingBytes } = place;
    this.#published = place.initialProgress;
    const { mpi, heap } = endpoint;
    this.rank = ranks.indexOf(globalRank);
    this.size = ranks.length;
    this.channel = channel;
    this.stagingBytes = stagingBytes;
    this.#endpoint = endpoint;
    this.#mpi = mpi;
    this.#ranks = ranks;
    const rooms = announcementRooms(this.size, stagingBytes);
    this.#rooms = rooms;
    this.operandTable = rooms.operandTable;
    this.flightRing = rooms.flightRing;
    this.byteOffset = heap.allocate(rooms.totalWords * 4);
    this.words = new Int32Array(heap.buffer, this.byteOffset, rooms.totalWords);
    // Staging areas stay out of resident memory until used.
    this.words.fill(0, 0, rooms.place(0, 0));
    for (let rank = 0; rank < this.size; rank++) {
      for (const parity of [0, 1] as const) {
        this.words.fill(0, rooms.place(rank, parity), rooms.staging(rank, parity));
      }
    }
    this.#pool = new AnnouncementPool(mpi, heap, HEAD_BYTES + stagingBytes);
    const own: RankHome = homes[this.rank] ?? { process: 0, worker: 0 };
    const to = (kind: typeof ANNOUNCEMENT | typeof SLICE): number[] =>
      homes.map((home) => groupTag(channel, home, own, kind, mpi.tagLimit));
    const from = (kind: typeof ANNOUNCEMENT | typeof SLICE): number[] =>
      homes.map((home) => groupTag(channel, own, home, kind, mpi.tagLimit));
    this.#processes = homes.map(({ process }) => process);
    this.#announcementsTo = to(ANNOUNCEMENT);
    this.#announcementsFrom = from(ANNOUNCEMENT);
    this.#slicesTo = to(SLICE);
    this.#slicesFrom = from(SLICE);
    this.#receives = homes.map(() => NONE);
    this.#giving = homes.map(() => []);
    this.#taking = homes.map(() => []);
    endpoint.directory.add(channel, this.addressOf(this.flightRing));
    endpoint.mailbox.enter(this);
  }

  addressOf(word: number): number {
    return this.byteOffset + word * 4;
  }

  header(rank: number): number {
    return this.#rooms.place(rank, this.parity);
  }

  staging(rank: number): number {
    return this.#rooms.staging(rank, this.parity);
  }

  stagingAddress(rank: number, parity: 0 | 1): number {
    return this.addressOf(this.#rooms.staging(rank, parity));
  }

  /** Rounds that this rank has published. */
  get published(): number {
    return this.#published;
  }

  turn(): void {
    const { heap } = this.#endpoint;
    for (const address of this.#allocated) heap.release(address);
    this.#allocated.length = 0;
    this.parity = this.parity === 0 ? 1 : 0;
    this.#filled = 0;
  }

  fill(bytes: number): void {
    this.#filled = bytes;
  }

  publish(): void {
    const { size, rank, words } = this;
    this.#published = (this.#published + 1) | 0;
    const parity = this.parity;
    const longest = HEAD_BYTES + this.stagingBytes;
    const mpi = this.#mpi;
    const pool = this.#pool;
    for (let step = 1; step < size; step++) {
      const peer = (rank + step) % size;
      const address = pool.processAddress(this.addressOf(this.#rooms.place(peer, parity)));
      this.#receives[peer] = mpi.irecv(
        address,
        longest,
        this.#processes[peer] ?? 0,
        this.#announcementsFrom[peer] ?? 0,
      );
    }
    if (size === 1) return;
    const place = this.#rooms.place(rank, parity);
    words[place + ROUND_WORD] = this.#published;
    const bytes = HEAD_BYTES + this.#filled;
    this.#filled = 0;
    const { address, requests } = pool.copy(this.addressOf(place), bytes);
    const from = pool.processAddress(address);
    for (let step = 1; step < size; step++) {
      const peer = (rank + step) % size;
      requests.push(mpi.isend(from, bytes, this.#processes[peer] ?? 0, this.#announcementsTo[peer] ?? 0));
    }
  }

  hasArrived(peer: number): boolean {
    const request = this.#receives[peer] ?? NONE;
    if (request !== NONE) {
      if (!this.#mpi.test(request)) return false;
      this.#receives[peer] = NONE;
      const round = this.words[this.#rooms.place(peer, this.parity) + ROUND_WORD];
      if (round !== this.#published) {
        throw new Error(`rank ${this.#ranks[peer]} sent round ${round} where ${this.#published} was due`);
      }
    }
    return this.#areOver(this.#giving[peer]) && this.#areOver(this.#taking[peer]);
  }

  #areOver(requests: number[] | undefined): boolean {
    while (requests !== undefined && requests.length > 0) {
      if (!this.#mpi.test(requests[requests.length - 1] ?? NONE)) return false;
      requests.pop();
    }
    return true;
  }

  spin(peer: number): boolean {
    const { spins } = this.#endpoint.waiting;
    for (let spin = 0; spin < spins; spin++) if (this.hasArrived(peer)) return true;
    return false;
  }

  wait(peer: number, turn: number, now: number, until: number): number {
    const { mailbox, waiting } = this.#endpoint;
    let time = now;
    if (turn === 0) waiting.begin(now);
    while (time < until && !this.hasArrived(peer)) {
      mailbox.poll();
      if (this.#cause !== undefined || this.failureOf(peer) !== undefined) break;
      waiting.pause(time);
      time = performance.now();
    }
    return time;
  }

  async waitAsync(peer: number, now: number, until: number): Promise<number> {
    const { mailbox, waiting } = this.#endpoint;
    let time = now;
    while (time < until && !this.hasArrived(peer)) {
      mailbox.poll();
      if (this.#cause !== undefined || this.failureOf(peer) !== undefined) break;
      await waiting.pauseAsync(time - now);
      time = performance.now();
    }
    return time;
  }

  give(peer: number, record: number, axis: number, start: number, count: number): void {
    const { heap } = this.#endpoint;
    const slice = tensorSlice(this.words, record, axis, start, count);
    let { address } = slice;
    if (!isPacked(slice)) {
      address = heap.allocate(slice.bytes);
      this.#allocated.push(address);
      packSlice(heap.buffer, slice, address);
    }
    const mpi = this.#mpi;
    const giving = this.#giving[peer];
    for (let at = 0; at < slice.bytes; at += LONGEST_MESSAGE) {
      const bytes = Math.min(LONGEST_MESSAGE, slice.bytes - at);
      const from = this.#pool.processAddress(address + at);
      giving?.push(mpi.isend(from, bytes, this.#processes[peer] ?? 0, this.#slicesTo[peer] ?? 0));
    }
  }

  take(peer: number, record: number, axis: number, start: number, count: number): void {
    const { heap } = this.#endpoint;
    const slice = tensorSlice(this.words, record, axis, start, count);
    const landing = heap.allocate(slice.bytes);
    this.#allocated.push(landing);
    const mpi = this.#mpi;
    const taking = this.#taking[peer];
    for (let at = 0; at < slice.bytes; at += LONGEST_MESSAGE) {
      const bytes = Math.min(LONGEST_MESSAGE, slice.bytes - at);
      const to = this.#pool.processAddress(landing + at);
      taking?.push(mpi.irecv(to, bytes, this.#processes[peer] ?? 0, this.#slicesFrom[peer] ?? 0));
    }
    leadToLanding(this.words, record, axis, start, slice, landing);
  }

  /** Slices are on their way since they were given and taken: a round without a message of its own. */
  exchange(): void {
    this.#published = (this.#published + 1) | 0;
  }

  get isAborted(): boolean {
    if (this.#cause === undefined && (this.size === 1 || (++this.#looks & MAILBOX_MASK) === 0)) {
      this.#endpoint.mailbox.poll();
    }
    return this.#cause !== undefined;
  }

  abort(cause: Error): void {
    this.#endpoint.mailbox.poll();
    if (this.#cause !== undefined) return;
    this.#cause = cause;
    this.#endpoint.mailbox.tellAbort(this.channel, this.#ranks, cause);
  }

  /** Somebody else aborted the group. */
  aborted(cause: Error): void {
    this.#cause ??= cause;
  }

  abortCause(): Error {
    return this.#cause ?? new Error("the group is not aborted");
  }

  failureOf(peer: number): Error | undefined {
    return this.#endpoint.mailbox.failureOf(this.#ranks[peer] ?? 0, this.channel, this.#published);
  }

  /** Peers poll. */
  nudge(): void {}

  /**
   * Ends this rank's part: receives are called off, and the rooms go back. Where the library still holds some of them,
   * because a peer died or gave up in the middle of sending, they stay: a send cannot be called off.
   */
  close(): void {
    const { heap, mailbox, directory } = this.#endpoint;
    mailbox.leave(this);
    directory.remove(this.channel);
    let isThrough = this.#pool.close();
    for (const request of this.#giving.flat()) if (!this.#mpi.test(request)) isThrough = false;
    for (const request of [...this.#receives, ...this.#taking.flat()]) {
      if (request !== NONE && !this.#mpi.test(request) && !this.#mpi.cancel(request)) isThrough = false;
    }
    this.#receives.fill(NONE);
    for (const requests of [...this.#giving, ...this.#taking]) requests.length = 0;
    if (!isThrough) return;
    for (const address of this.#allocated.splice(0)) heap.release(address);
    heap.release(this.byteOffset);
  }
}
