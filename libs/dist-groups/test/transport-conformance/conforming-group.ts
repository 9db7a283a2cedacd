// A group of ranks, as the conformance suite has it; and one whose ranks are workers over some transport.

import { RankCrashed } from "../../src/errors/errors.ts";
import { fromPlainError } from "../../src/errors/plain-error.ts";
import { compileReduceKernels } from "../../src/reduction/reduce.ts";
import type { Call, Outcome, Start } from "./conforming-rank.ts";
import type { Conditions, ConformingTransport, HostEnd } from "./transports.ts";

export interface GroupOptions {
  readonly size: number;
  /** A program module, as for `openWorld`. */
  readonly program: URL;
  readonly stagingBytes: number;
  readonly deadlineMs?: number;
}

/** How a rank came out of a call. */
export type Settled = { readonly value: unknown } | { readonly error: unknown };

export const HEAP_BYTES = 16 << 20;
/** Longer than anything that ends by itself. */
export const FOR_EVER_MS = 100_000;

/** What the suite runs on. */
export interface Subject {
  readonly name: string;
  /** Opens a group called "world" of `size` ranks that run a program. */
  open(options: GroupOptions): Promise<ConformingGroup>;
}

/** A group of ranks whose methods can be called. */
export abstract class ConformingGroup implements AsyncDisposable {
  /** Calls a method on every rank; what each returned. Throws what the first rank threw that threw. */
  async call<T>(method: string, ...args: readonly unknown[]): Promise<T[]> {
    return (await this.settle(method, ...args)).map((outcome) => returnedBy(outcome) as T);
  }

  /** Calls a method on every rank and waits for all that live. */
  settle(method: string, ...args: readonly unknown[]): Promise<Settled[]> {
    return Promise.all(this.start(method, ...args));
  }

  /** Calls a method on every rank. */
  abstract start(method: string, ...args: readonly unknown[]): Promise<Settled>[];

  /** Ends a rank in the middle of whatever it does. It answers no call. */
  abstract kill(rank: number): void;

  abstract [Symbol.asyncDispose](): Promise<void>;
}

/** Groups of workers over a transport. */
export function workersOver(transport: ConformingTransport): Subject {
  return { name: transport.name, open: (options) => WorkerGroup.open(transport, options) };
}

class WorkerGroup extends ConformingGroup {
  readonly #workers: readonly Worker[];
  readonly #host: HostEnd;

  private constructor(workers: readonly Worker[], host: HostEnd) {
    super();
    this.#workers = workers;
    this.#host = host;
  }

  static async open(transport: ConformingTransport, options: GroupOptions): Promise<ConformingGroup> {
    const { size, program, stagingBytes, deadlineMs = FOR_EVER_MS } = options;
    const ranks = Array.from({ length: size }, (_, rank) => rank);
    const conditions: Conditions = {
      settings: {
        name: "world",
        generation: 1,
        ranks,
        stagedLimit: stagingBytes,
        stagedAllReduceLimit: stagingBytes,
        deadlineMs,
      },
      stagingBytes,
      heapBytesPerRank: HEAP_BYTES,
    };
    const host = transport.open(conditions);
    const kernels = await compileReduceKernels();
    const url = new URL("./conforming-rank.ts", import.meta.url).href;
    const workers = ranks.map(() => new Worker(url, { type: "module" }));
    const group = new WorkerGroup(workers, host);
    const started = workers.map(async (worker, rank) => {
      await nextMessage(worker);
      const { data, transfer } = host.invitation(rank);
      const start: Start = {
        transport: transport.name,
        rank,
        conditions,
        invitation: data,
        kernels,
        program: program.href,
      };
      const outcome = nextMessage(worker);
      worker.postMessage(start, [...transfer]);
      returnedBy(settled(await outcome));
    });
    await Promise.all(started);
    return group;
  }

  start(method: string, ...args: readonly unknown[]): Promise<Settled>[] {
    return this.#workers.map(async (worker) => {
      const outcome = nextMessage(worker);
      const call: Call = { method, args };
      worker.postMessage(call);
      return settled(await outcome);
    });
  }

  kill(rank: number): void {
    this.#workers[rank]?.terminate();
    this.#host.died(rank, new RankCrashed(rank, "the host ended it"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.#workers) worker.terminate();
  }
}

function nextMessage(worker: Worker): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<Outcome>): void => resolve(data);
    worker.onerror = (event): void => {
      event.preventDefault();
      reject(new Error(event.message));
    };
  });
}

function settled(outcome: Outcome): Settled {
  return "error" in outcome ? { error: fromPlainError(outcome.error) } : outcome;
}

function returnedBy(outcome: Settled): unknown {
  if ("error" in outcome) throw outcome.error;
  return outcome.value;
}
