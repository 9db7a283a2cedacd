// The processes that an MPI launcher started together, as one of them sees it: MPI itself, the letters of its main
// thread, and the polling for them. A process has one, from the first world on until it ends.

import { builtinModule } from "@lockstep/tensor";
import { MpiUnsuitable } from "../errors/mpi-errors.ts";
import { attachMpi } from "../transport/mpi/library/attach-mpi.ts";
import { abortMpi, finalizeMpi, initMpi } from "../transport/mpi/library/init-mpi.ts";
import type { Mpi, MpiHandles } from "../transport/mpi/library/mpi.ts";
import { Inbox, type Letter, Outbox, ownRoom } from "../transport/mpi/post.ts";
import { LEAST_TAG_LIMIT, MAIN_TAG, NEWS_TAG, rankTags } from "../transport/mpi/tags.ts";
import { Pump } from "./pump.ts";

/** How long the processes may take to say goodbye, in milliseconds. */
const GOODBYE_MS = 5_000;

export class Job {
  readonly handles: MpiHandles;
  readonly mpi: Mpi;
  readonly outbox: Outbox;
  /** Takes what comes while somebody holds it. */
  readonly pump: Pump;
  /** Takes a letter of another main thread. */
  onLetter: (letter: Letter) => void = () => undefined;
  /** Takes a letter of a rank. */
  onNews: (letter: Letter) => void = () => undefined;
  readonly #letters: Inbox;
  readonly #news: Inbox;
  #nextChannel = 0;
  #nextWorld = 0;

  constructor() {
    this.handles = initMpi();
    if (this.handles.tagLimit < LEAST_TAG_LIMIT) {
      throw new MpiUnsuitable(`its largest tag is ${this.handles.tagLimit}, and groups need ${LEAST_TAG_LIMIT}`);
    }
    this.mpi = attachMpi(this.handles);
    const room = ownRoom(this.mpi);
    this.outbox = new Outbox(this.mpi, room);
    this.#letters = new Inbox(this.mpi, room, MAIN_TAG);
    this.#news = new Inbox(this.mpi, room, NEWS_TAG);
    this.pump = new Pump(() => this.poll());
  }

  /** This process's number. 0 is the leader. */
  get process(): number {
    return this.handles.rank;
  }

  get processes(): number {
    return this.handles.size;
  }

  /** The number of the next group of the job. */
  readonly nextChannel = (): number => this.#nextChannel++;

  /** The number of the next world of the job. */
  nextWorld(): number {
    return this.#nextWorld++;
  }

  /** Takes what has come. True when there was something. */
  poll(): boolean {
    let isActive = false;
    for (const [inbox, take] of [
      [this.#news, (letter: Letter) => this.onNews(letter)],
      [this.#letters, (letter: Letter) => this.onLetter(letter)],
    ] as const) {
      for (let letter = inbox.poll(); letter !== undefined; letter = inbox.poll()) {
        isActive = true;
        take(letter);
      }
    }
    this.outbox.sweep();
    return isActive;
  }

  /**
   * Ends this process's part in MPI, once `isOver` tells that all processes are about to. Blocks for as long as that
   * takes, but no longer than a few seconds: then the whole job ends with an error.
   */
  end(isOver: () => boolean): void {
    const idle = new Int32Array(new SharedArrayBuffer(4));
    const deadline = performance.now() + GOODBYE_MS;
    // Letters to ranks that have ended. A long one has not left its sender before it is received, and some libraries
    // complain about what nobody received.
    const room = ownRoom(this.mpi);
    const unread = rankTags().map((tag) => new Inbox(this.mpi, room, tag));
    for (let isDropped = false; !isDropped || !isOver() || !this.outbox.sweep(); ) {
      if (performance.now() > deadline) {
        this.abort(1);
        return;
      }
      this.poll();
      isDropped = unread.every((inbox) => inbox.poll() === undefined && !inbox.isArriving);
      if (isDropped) Atomics.wait(idle, 0, 0, 1);
    }
    finalizeMpi(this.handles);
  }

  /** Ends every process of the job at once. */
  abort(code: number): void {
    abortMpi(this.handles, code);
  }
}

let job: Job | undefined;

/** The job of this process. Waits for all processes to have come here when it is called for the first time. */
export function openJob(): Job {
  job ??= new Job();
  return job;
}

/** Calls `listener` when this process ends, with its exit code. */
export function onProcessExit(listener: (code: number) => void): void {
  builtinModule<typeof import("node:process")>("node:process")?.on("exit", listener);
}

/** Calls `tick` again and again, which keeps no process alive. */
export function everyNowAndThen(tick: () => void, milliseconds: number): void {
  builtinModule<typeof import("node:timers")>("node:timers")?.setInterval(tick, milliseconds).unref();
}

/** Ends this process. */
export function exitProcess(code: number): void {
  builtinModule<typeof import("node:process")>("node:process")?.exit(code);
}
