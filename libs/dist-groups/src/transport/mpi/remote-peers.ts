// A rank's end of a group as far as ranks of other processes go: messages. What a rank announces is copied once and
// sent to each of them, which has a receive posted for it where it belongs. Slices of tensors go straight from the
// tensor to where the peer lets them land.
//
// Which place a peer's next announcement goes to is known before it comes: a rank that enters round k has seen all
// peers in round k - 1, so the next message of each is that of round k, and ranks that agree have the same parity in
// it. Ranks that do not agree find that out in the round of their announcements, before anything else is received. A
// peer that is a round ahead waits in the library until this rank posts its next receives.
//
// A rank leaves a round only when what it gave in it has been taken: who has this rank's next round knows that nothing
// which this rank sent has changed on its way.

import type { SharedHeap } from "@lockstep/tensor";
import { AnnouncementPool } from "./announcement-pool.ts";
import { HEAD_BYTES, ROUND_WORD } from "./announcement-rooms.ts";
import type { Mpi } from "./library/mpi.ts";
import { landersOf } from "./landing-ranks.ts";
import { ANNOUNCEMENT, groupTag, type RankHome, SLICE } from "./tags.ts";
import { isPacked, leadToLanding, packSlice, type TensorSlice, tensorSlice } from "./tensor-slice.ts";

/** No request. */
const NONE = -1;
/** The longest message, in bytes: counts of the library are signed 32-bit integers. */
const LONGEST_MESSAGE = 2 ** 30;

export class RemotePeers {
  /** Places in the group of the ranks of other processes, the one after this rank first. */
  readonly ranks: readonly number[];
  readonly #mpi: Mpi;
  /** Where slices land. */
  readonly #heap: SharedHeap;
  readonly #words: Int32Array;
  readonly #pool: AnnouncementPool;
  readonly #longest: number;
  /** By place in the group: the peer's process, and the tags of messages to it and from it. */
  readonly #processes: readonly number[];
  readonly #announcementsTo: readonly number[];
  readonly #announcementsFrom: readonly number[];
  readonly #slicesTo: readonly number[];
  readonly #slicesFrom: readonly number[];
  /** Receives of the peers' announcements, and the slices that are on their way to and from them. */
  readonly #receives: number[];
  readonly #giving: number[][];
  readonly #taking: number[][];
  /** Who lands what this rank shares: one rank of each other process. */
  readonly #landers: readonly number[];
  /** Byte addresses of what the running collective has allocated. */
  readonly #allocated: number[] = [];

  /** `rank`: this rank's place in the group; `words` are those of the process's memory, and `heap` is a part of it. */
  constructor(
    mpi: Mpi,
    heap: SharedHeap,
    words: Int32Array,
    group: { readonly channel: number; readonly homes: readonly RankHome[]; readonly stagingBytes: number },
    rank: number,
  ) {
    const { channel, homes, stagingBytes } = group;
    const own: RankHome = homes[rank] ?? { process: 0, worker: 0 };
    this.#mpi = mpi;
    this.#heap = heap;
    this.#words = words;
    this.#longest = HEAD_BYTES + stagingBytes;
    this.#pool = new AnnouncementPool(mpi, heap, this.#longest);
    const after = homes.map((_, step) => (rank + step) % homes.length);
    this.ranks = after.filter((peer) => homes[peer]?.process !== own.process);
    const to = (kind: typeof ANNOUNCEMENT | typeof SLICE): number[] =>
      homes.map((home) => groupTag(channel, home, own, kind, mpi.tagLimit));
    const from = (kind: typeof ANNOUNCEMENT | typeof SLICE): number[] =>
      homes.map((home) => groupTag(channel, own, home, kind, mpi.tagLimit));
    this.#processes = homes.map(({ process }) => process);
    this.#announcementsTo = to(ANNOUNCEMENT);
    this.#announcementsFrom = from(ANNOUNCEMENT);
    this.#slicesTo = to(SLICE);
    this.#slicesFrom = from(SLICE);
    this.#landers = landersOf(homes, rank);
    this.#receives = homes.map(() => NONE);
    this.#giving = homes.map(() => []);
    this.#taking = homes.map(() => []);
  }

  /** A collective begins: what the one before has allocated goes back. */
  turn(): void {
    for (const address of this.#allocated) this.#heap.release(address);
    this.#allocated.length = 0;
  }

  /** Is ready for a peer's announcement, which goes to the place at word `place`. */
  receive(peer: number, place: number): void {
    this.#receives[peer] = this.#mpi.irecv(
      this.#pool.processAddress(place * 4),
      this.#longest,
      this.#processes[peer] ?? 0,
      this.#announcementsFrom[peer] ?? 0,
    );
  }

  /** Sends everybody a copy of the place at word `place`, with `filled` bytes of its staging area. */
  send(place: number, filled: number): void {
    const bytes = HEAD_BYTES + filled;
    const { address, requests } = this.#pool.copy(place * 4, bytes);
    const from = this.#pool.processAddress(address);
    for (const peer of this.ranks) {
      requests.push(this.#mpi.isend(from, bytes, this.#processes[peer] ?? 0, this.#announcementsTo[peer] ?? 0));
    }
  }

  /** Whether a peer's announcement of round `round` is at word `place`, and all slices have been given and taken. */
  hasArrived(peer: number, place: number, round: number): boolean {
    const request = this.#receives[peer] ?? NONE;
    if (request !== NONE) {
      if (!this.#mpi.test(request)) return false;
      this.#receives[peer] = NONE;
      const came = this.#words[place + ROUND_WORD];
      if (came !== round) throw new Error(`rank ${peer} of the group sent round ${came} where ${round} was due`);
    }
    return this.#areOver(this.#giving[peer]) && this.hasTaken(peer);
  }

  /** Whether all slices that were taken from a peer are here. */
  hasTaken(peer: number): boolean {
    return this.#areOver(this.#taking[peer]);
  }

  #areOver(requests: number[] | undefined): boolean {
    while (requests !== undefined && requests.length > 0) {
      if (!this.#mpi.test(requests[requests.length - 1] ?? NONE)) return false;
      requests.pop();
    }
    return true;
  }

  /** See {@link SliceExchange.give}. */
  give(peer: number, record: number, axis: number, start: number, count: number): void {
    const slice = tensorSlice(this.#words, record, axis, start, count);
    this.#send(slice, this.#packed(slice), peer);
  }

  /** See {@link SliceExchange.share}: to one rank of each process. */
  share(record: number, axis: number, start: number, count: number): void {
    if (this.#landers.length === 0) return;
    const slice = tensorSlice(this.#words, record, axis, start, count);
    const address = this.#packed(slice);
    for (const peer of this.#landers) this.#send(slice, address, peer);
  }

  #send(slice: TensorSlice, address: number, peer: number): void {
    const giving = this.#giving[peer];
    for (let at = 0; at < slice.bytes; at += LONGEST_MESSAGE) {
      const bytes = Math.min(LONGEST_MESSAGE, slice.bytes - at);
      const from = this.#pool.processAddress(address + at);
      giving?.push(this.#mpi.isend(from, bytes, this.#processes[peer] ?? 0, this.#slicesTo[peer] ?? 0));
    }
  }

  /** Byte address of the elements of a slice in a row: of a copy, where they do not lie so. */
  #packed(slice: TensorSlice): number {
    if (isPacked(slice)) return slice.address;
    const address = this.#heap.allocate(slice.bytes);
    this.#allocated.push(address);
    packSlice(this.#heap.buffer, slice, address);
    return address;
  }

  /** See {@link SliceExchange.take}. */
  take(peer: number, record: number, axis: number, start: number, count: number): void {
    const slice = tensorSlice(this.#words, record, axis, start, count);
    const landing = this.#heap.allocate(slice.bytes);
    this.#allocated.push(landing);
    const taking = this.#taking[peer];
    for (let at = 0; at < slice.bytes; at += LONGEST_MESSAGE) {
      const bytes = Math.min(LONGEST_MESSAGE, slice.bytes - at);
      const to = this.#pool.processAddress(landing + at);
      taking?.push(this.#mpi.irecv(to, bytes, this.#processes[peer] ?? 0, this.#slicesFrom[peer] ?? 0));
    }
    leadToLanding(this.#words, record, axis, start, slice, landing);
  }

  /**
   * Calls off receives, and gives back what is allocated. False where the library still holds some memory, because a
   * peer died or gave up in the middle of sending: then all stays, as a send cannot be called off.
   */
  close(): boolean {
    let isThrough = this.#pool.close();
    for (const request of this.#giving.flat()) if (!this.#mpi.test(request)) isThrough = false;
    for (const request of [...this.#receives, ...this.#taking.flat()]) {
      if (request !== NONE && !this.#mpi.test(request) && !this.#mpi.cancel(request)) isThrough = false;
    }
    this.#receives.fill(NONE);
    for (const requests of [...this.#giving, ...this.#taking]) requests.length = 0;
    if (isThrough) this.turn();
    return isThrough;
  }
}
