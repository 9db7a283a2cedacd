// Messages of any length between threads of an MPI job, outside groups. Nothing here waits: what is not through yet is
// gone on with at the next poll.

import type { SharedHeap } from "@lockstep/tensor";
import type { Mpi } from "./library/mpi.ts";

/** Memory in which a message lies while the library reads or writes it. */
interface LetterSpace {
  readonly bytes: Uint8Array;
  /** Of its first byte, in the process. */
  readonly address: number;
  release(): void;
}

/**
 * Gives letters their space, which has to outlive the thread: the library goes on with a message whatever becomes of
 * who sent it.
 */
export type LetterRoom = (bytes: number) => LetterSpace;

/** Room in a heap of the process's memory, for threads that may be ended at any time. */
export function heapRoom(mpi: Mpi, heap: SharedHeap): LetterRoom {
  const base = mpi.addressOf(heap.buffer);
  return (bytes) => {
    const offset = heap.allocate(bytes);
    return {
      bytes: new Uint8Array(heap.buffer, offset, bytes),
      address: base + offset,
      release: () => heap.release(offset),
    };
  };
}

/** Room of their own for each, for main threads, which end with the process. */
export function ownRoom(mpi: Mpi): LetterRoom {
  return (bytes) => {
    const buffer = new SharedArrayBuffer(Math.max(bytes, 1));
    return { bytes: new Uint8Array(buffer, 0, bytes), address: mpi.addressOf(buffer), release() {} };
  };
}

/** The sending end of a thread. */
export class Outbox {
  readonly #mpi: Mpi;
  readonly #room: LetterRoom;
  #sending: { readonly space: LetterSpace; readonly request: number }[] = [];

  constructor(mpi: Mpi, room: LetterRoom) {
    this.#mpi = mpi;
    this.#room = room;
  }

  /** Sends a copy of some bytes to a process. */
  send(bytes: Uint8Array, to: number, tag: number): void {
    this.sweep();
    const space = this.#room(bytes.length);
    space.bytes.set(bytes);
    this.#sending.push({ space, request: this.#mpi.isend(space.address, bytes.length, to, tag) });
  }

  /** Lets go of what has been sent. True when nothing is on its way any more. */
  sweep(): boolean {
    if (this.#sending.length === 0) return true;
    this.#sending = this.#sending.filter(({ request, space }) => {
      if (!this.#mpi.test(request)) return true;
      space.release();
      return false;
    });
    return this.#sending.length === 0;
  }
}

/** A message, and the process that it comes from. */
export interface Letter {
  readonly from: number;
  readonly bytes: Uint8Array;
}

/** The receiving end of a thread, for one tag. */
export class Inbox {
  readonly #mpi: Mpi;
  readonly #room: LetterRoom;
  readonly #tag: number;
  #arriving: { readonly space: LetterSpace; readonly from: number; readonly request: number } | undefined;

  constructor(mpi: Mpi, room: LetterRoom, tag: number) {
    this.#mpi = mpi;
    this.#room = room;
    this.#tag = tag;
  }

  /** Whether a message is on its way in. */
  get isArriving(): boolean {
    return this.#arriving !== undefined;
  }

  /** The next message, if one is here. Those of one sender come in the order in which they were sent. */
  poll(): Letter | undefined {
    const mpi = this.#mpi;
    if (this.#arriving === undefined) {
      if (!mpi.probe(this.#tag)) return undefined;
      const { probedSource: from, probedBytes } = mpi;
      const space = this.#room(probedBytes);
      this.#arriving = { space, from, request: mpi.receiveProbed(space.address, probedBytes) };
    }
    const { space, from, request } = this.#arriving;
    if (!mpi.test(request)) return undefined;
    this.#arriving = undefined;
    // A copy: text decoders and deserialisers refuse shared memory.
    const bytes = new Uint8Array(mpi.receivedBytes);
    bytes.set(space.bytes.subarray(0, bytes.length));
    space.release();
    return { from, bytes };
  }
}
