import { SharedHeap, type WasmMemory } from "@lockstep/tensor";
import { toPlainError } from "../../errors/plain-error.ts";
import type { RankHealth, RankTransport } from "../world-transport.ts";
import { FlightDirectory } from "./flight-directory.ts";
import { attachMpi } from "./library/attach-mpi.ts";
import type { MpiHandles } from "./library/mpi.ts";
import { type MpiEndpoint, type MpiPlace, MpiTransport } from "./mpi-transport.ts";
import { heapRoom } from "./post.ts";
import { PollingWait } from "./polling-wait.ts";
import { RankMailbox } from "./rank-mailbox.ts";
import type { RankHome } from "./tags.ts";

/** What a rank needs to open its end. */
export interface MpiInvitation {
  readonly handles: MpiHandles;
  /** Number of the world in the job. */
  readonly world: number;
  /** Where all ranks of the world live. */
  readonly homes: readonly RankHome[];
  /** When the world opened, by the leader's `Date.now()`. */
  readonly openedAt: number;
  /** The part of the process's memory that is the transport's. */
  readonly room: { readonly start: number; readonly bytes: number };
  /** Byte offset of the blocks of groups in the process's memory. */
  readonly blocksStart: number;
  /** Byte offset of the rank's flight directory, and of the process's coarse clock. */
  readonly directoryOffset: number;
  readonly clockOffset: number;
  /** The machine runs more ranks than it has cores. */
  readonly isCrowded: boolean;
}

/** A rank's end of a world whose ranks are in several processes. */
export class MpiRank implements RankTransport {
  readonly health: MpiRankHealth;
  readonly #rank: number;
  readonly #endpoint: MpiEndpoint;

  /** `rank` is global; `memory` that of its process. */
  constructor(rank: number, memoryId: string, memory: WasmMemory, invitation: MpiInvitation) {
    const { handles, homes, room, blocksStart } = invitation;
    const mpi = attachMpi(handles);
    const heap = SharedHeap.range(memoryId, memory, room.start, room.bytes, true);
    const mailbox = new RankMailbox(invitation.world, rank, homes, mpi, heapRoom(mpi, heap));
    const directory = new FlightDirectory(memory.buffer, invitation.directoryOffset);
    this.#rank = rank;
    const waiting = new PollingWait(invitation.isCrowded);
    this.#endpoint = { mpi, mailbox, heap, directory, waiting, blocksStart };
    const clock = new Int32Array(memory.buffer, invitation.clockOffset, 1);
    this.health = new MpiRankHealth(mailbox, clock, invitation.openedAt);
  }

  /** The eras of all ranks. */
  hear(news: unknown): void {
    this.#endpoint.mailbox.hearEras(news as readonly number[]);
  }

  join(ranks: readonly number[], place: unknown): MpiTransport {
    return new MpiTransport(place as MpiPlace, ranks, this.#rank, this.#endpoint);
  }
}

/** What a rank tells of its health, and asks: by messages. */
class MpiRankHealth implements RankHealth {
  readonly #mailbox: RankMailbox;
  readonly #clock: Int32Array;
  /** What to add to this thread's `performance.now()`. */
  readonly #clockOffset: number;
  #running = 0;
  #beats = 0;

  constructor(mailbox: RankMailbox, clock: Int32Array, openedAt: number) {
    this.#mailbox = mailbox;
    this.#clock = clock;
    this.#clockOffset = Date.now() - openedAt - performance.now();
  }

  worldTime(now: number): number {
    return Math.max(0, Math.round(now + this.#clockOffset));
  }

  coarseTime(): number {
    return this.#clock[0] ?? 0;
  }

  get isClosed(): boolean {
    return this.#mailbox.isClosed;
  }

  hasExited(rank: number): boolean {
    return this.#mailbox.hasExited(rank);
  }

  exit(_rank: number, error: unknown): void {
    this.#mailbox.tellExit(toPlainError(error));
  }

  leave(_rank: number, error: unknown): void {
    this.#mailbox.tellLeft(toPlainError(error));
  }

  /** Calls that were posted are begun: the host cannot take them back across processes. */
  beginCall(): boolean {
    this.#mailbox.poll();
    return true;
  }

  countRunning(_rank: number, change: number): void {
    this.#running += change;
    this.#tell();
  }

  beat(): void {
    this.#beats++;
    this.#mailbox.poll();
    this.#tell();
  }

  #tell(): void {
    this.#mailbox.tellHealth(this.#running, this.#beats);
  }
}
