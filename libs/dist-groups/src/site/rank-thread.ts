// Workers as the host uses them. Those of `node:worker_threads` are made to look like those of the web, which Bun, Deno
// and browsers have. Rank-side, rank/host-port.ts is the same.

import { ArgumentError, builtinModule, describe, RUNTIME } from "@lockstep/tensor";
import { isInstance } from "../errors/printed-value.ts";
import type { ModuleAddress, NodeWorkerLike, WebWorkerLike, WorkerLike } from "./worker-like.ts";
import type { WorldSettings } from "./world-settings.ts";

type Listener = (event: object) => void;

/** What an event of a worker tells, wherever it comes from. */
export interface WorkerEvent {
  /** Of "message". */
  readonly data?: unknown;
  /** Of "error": what was thrown, where the runtime gives it, and its message. */
  readonly error?: unknown;
  readonly message?: unknown;
  readonly filename?: unknown;
  /** Of "close", which Bun and Node have: the exit code. */
  readonly code?: unknown;
  preventDefault?(): void;
}

/** Whether this runtime tells when a worker has ended. */
export const TELLS_END = RUNTIME === "bun" || RUNTIME === "node";

/** Workers that callers' factories gave to ranks of any world, open or closed: each is of one rank only. */
const taken = new WeakSet<WorkerLike>();

/** Starts the worker of a rank. Throws what the runtime, or the caller's factory, throws. */
export function startWorker(rank: number, { worker }: Pick<WorldSettings, "worker">): WebWorkerLike {
  const started = typeof worker === "function" ? worker(rank) : newWorker(rank, worker ?? rankModule());
  if (!isWorkerLike(started)) {
    throw new ArgumentError("openWorld", "worker", "a function that returns a Worker", describe(started));
  }
  if (taken.has(started)) {
    const expected = "a function that returns a worker of its own for each rank, started when it is called";
    throw new ArgumentError("openWorld", "worker", expected, "one that returned a worker that is a rank's already");
  }
  taken.add(started);
  return "addEventListener" in started ? started : asWebWorker(started);
}

/** Apart from `new Worker`, so that bundlers do not take it for a worker to bundle: the program would be missing. */
function rankModule(): ModuleAddress {
  return new URL("../rank/rank.ts", import.meta.url);
}

function newWorker(rank: number, address: ModuleAddress): WorkerLike {
  const name = `lockstep-rank-${rank}`;
  const threads =
    RUNTIME === "node" ? builtinModule<typeof import("node:worker_threads")>("node:worker_threads") : undefined;
  if (threads === undefined) return new Worker(hrefOf(address), { type: "module", name });
  const isUrl = typeof address !== "string" || /^(file|data):/.test(address);
  return new threads.Worker(isUrl ? new URL(hrefOf(address)) : hrefOf(address), { name });
}

/** An address as text. */
export function hrefOf(address: ModuleAddress): string {
  return typeof address === "string" ? address : address.href;
}

function isWorkerLike(value: unknown): value is WorkerLike {
  if (!isInstance(value, Object)) return false;
  const has = (name: string): boolean => typeof Reflect.get(value, name) === "function";
  return has("postMessage") && has("terminate") && (has("addEventListener") || has("on"));
}

function asWebWorker(worker: NodeWorkerLike): WebWorkerLike {
  const events: Readonly<Record<string, readonly [string, (value: unknown) => WorkerEvent]>> = {
    message: ["message", (data) => ({ data })],
    error: ["error", (error) => ({ error, message: String(error) })],
    close: ["exit", (code) => ({ code })],
  };
  return {
    postMessage: (message, transfer) => worker.postMessage(message, transfer),
    terminate: () => worker.terminate(),
    addEventListener(type: string, listener: Listener) {
      const [name, toEvent] = events[type] ?? [type, (value: unknown) => ({ data: value })];
      worker.on(name, (value: unknown) => listener(toEvent(value)));
    },
    // Listeners live as long as the worker.
    removeEventListener() {},
  };
}
