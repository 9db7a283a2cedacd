// Processes of one thread, and an MPI between them that counts what it is given. For tests of what crosses a network:
// which messages, and how many bytes.

import type { SharedHeap } from "@lockstep/tensor";
import type { Mpi } from "../../src/transport/mpi/library/mpi.ts";

/** A message as it was given to MPI. */
export interface GivenMessage {
  readonly from: number;
  readonly to: number;
  readonly tag: number;
  readonly bytes: number;
}

interface PostedReceive {
  readonly from: number;
  readonly address: number;
  isDone: boolean;
}

interface Parcel {
  readonly from: number;
  readonly content: Uint8Array;
}

/** Addresses of a process's memory start at a multiple of this. */
const PROCESS_STEP = 2 ** 40;

export class CountedNetwork {
  /** Everything that was given to MPI to send. */
  readonly given: GivenMessage[] = [];
  readonly #memories: readonly Uint8Array[];
  readonly #parcels = new Map<string, Parcel[]>();
  readonly #receives = new Map<string, PostedReceive[]>();

  /** `heaps`: the memory of each process. */
  constructor(heaps: readonly SharedHeap[]) {
    this.#memories = heaps.map(({ buffer }) => new Uint8Array(buffer));
  }

  /** MPI as a thread of a process calls it. */
  attach(process: number): Mpi {
    const requests: (PostedReceive | undefined)[] = [];
    let probed: Parcel | undefined;
    const open = (request: PostedReceive | undefined): number => requests.push(request) - 1;
    return {
      rank: process,
      size: this.#memories.length,
      tagLimit: 2 ** 31 - 1,
      addressOf: (buffer) => PROCESS_STEP * (1 + this.#memories.findIndex((memory) => memory.buffer === buffer)),
      isend: (address, bytes, to, tag) => {
        this.given.push({ from: process, to, tag, bytes });
        this.#queue(this.#parcels, to, tag).push({ from: process, content: this.#at(address, bytes).slice() });
        this.#match(to, tag);
        return open(undefined);
      },
      irecv: (address, _bytes, from, tag) => {
        const receive: PostedReceive = { from, address, isDone: false };
        this.#queue(this.#receives, process, tag).push(receive);
        this.#match(process, tag);
        return open(receive);
      },
      test: (request) => requests[request]?.isDone ?? true,
      probe: (tag) => {
        probed = this.#queue(this.#parcels, process, tag).shift();
        return probed !== undefined;
      },
      get probedSource() {
        return probed?.from ?? -1;
      },
      get probedBytes() {
        return probed?.content.length ?? 0;
      },
      receiveProbed: (address, bytes) => {
        this.#at(address, bytes).set(probed?.content ?? []);
        return open(undefined);
      },
      get receivedBytes() {
        return probed?.content.length ?? 0;
      },
      cancel: () => true,
      openRequests: 0,
    };
  }

  #at(address: number, bytes: number): Uint8Array {
    const memory = this.#memories[Math.floor(address / PROCESS_STEP) - 1] ?? new Uint8Array();
    const offset = address % PROCESS_STEP;
    return memory.subarray(offset, offset + bytes);
  }

  #queue<T>(queues: Map<string, T[]>, process: number, tag: number): T[] {
    const key = `${process} ${tag}`;
    const queue = queues.get(key) ?? [];
    queues.set(key, queue);
    return queue;
  }

  /** Receives take what comes from their process in the order in which they were posted. */
  #match(process: number, tag: number): void {
    const parcels = this.#queue(this.#parcels, process, tag);
    const receives = this.#queue(this.#receives, process, tag);
    for (const parcel of [...parcels]) {
      const receive = receives.find(({ from }) => from === parcel.from);
      if (receive === undefined) continue;
      parcels.splice(parcels.indexOf(parcel), 1);
      receives.splice(receives.indexOf(receive), 1);
      this.#at(receive.address, parcel.content.length).set(parcel.content);
      receive.isDone = true;
    }
  }
}
