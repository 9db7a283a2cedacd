import type { SharedHeap } from "@lockstep/tensor";
import type { Mpi } from "./library/mpi.ts";

/** A copy of an announcement that is on its way to the peers. */
interface PooledAnnouncement {
  /** Byte address in the rank's memory. */
  readonly address: number;
  /** Sends that are not through. */
  readonly requests: number[];
}

/**
 * Copies of announcements, from which they are sent: the rank may go on to write its own while they travel. A copy is
 * used again when all its sends are through; there are as many as are on their way at once, two as a rule.
 */
export class AnnouncementPool {
  readonly #mpi: Mpi;
  readonly #heap: SharedHeap;
  readonly #bytes: number;
  readonly #memoryAddress: number;
  readonly #memory: Uint8Array;
  readonly #copies: PooledAnnouncement[] = [];
  #next = 0;

  /** `bytes`: of the longest announcement. `heap` is where copies lie. */
  constructor(mpi: Mpi, heap: SharedHeap, bytes: number) {
    this.#mpi = mpi;
    this.#heap = heap;
    this.#bytes = bytes;
    this.#memoryAddress = mpi.addressOf(heap.buffer);
    this.#memory = new Uint8Array(heap.buffer);
  }

  /** Copies `bytes` from byte `from` of the rank's memory. The sends of the copy are to be added to what is returned. */
  copy(from: number, bytes: number): { readonly address: number; readonly requests: number[] } {
    const copy = this.#free();
    this.#memory.copyWithin(copy.address, from, from + bytes);
    return copy;
  }

  /** Address of a byte of the rank's memory in its process. */
  processAddress(address: number): number {
    return this.#memoryAddress + address;
  }

  #free(): PooledAnnouncement {
    for (let tried = 0; tried < this.#copies.length; tried++) {
      const copy = this.#copies[this.#next];
      this.#next = (this.#next + 1) % this.#copies.length;
      if (copy !== undefined && this.#isThrough(copy)) return copy;
    }
    const copy = { address: this.#heap.allocate(this.#bytes), requests: [] };
    this.#copies.push(copy);
    return copy;
  }

  #isThrough({ requests }: PooledAnnouncement): boolean {
    while (requests.length > 0) {
      if (!this.#mpi.test(requests[requests.length - 1] ?? 0)) return false;
      requests.pop();
    }
    return true;
  }

  /** Gives the copies back. False when some are still on their way: these stay. */
  close(): boolean {
    let isThrough = true;
    for (const copy of this.#copies.splice(0)) {
      if (this.#isThrough(copy)) this.#heap.release(copy.address);
      else isThrough = false;
    }
    return isThrough;
  }
}
