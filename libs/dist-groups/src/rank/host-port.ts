// The rank's end of the messages between its worker and the host: the worker's global scope, or, in Node, the port that
// `node:worker_threads` gives. Host-side, world/rank-thread.ts is the same.

import { builtinModule, RUNTIME } from "@lockstep/tensor";
import type { Endpoint } from "comlink";

/** Where a rank's messages to the host go, and the host's come from. */
export type HostPort = Endpoint;

type Threads = typeof import("node:worker_threads");

/** The port to whoever started this worker; undefined on a thread that is no worker. */
export function openHostPort(): HostPort | undefined {
  if (RUNTIME === "deno" || RUNTIME === "browser") {
    return "DedicatedWorkerGlobalScope" in globalThis ? webPort() : undefined;
  }
  const threads = builtinModule<Threads>("node:worker_threads");
  if (threads === undefined || threads.isMainThread) return undefined;
  return RUNTIME === "node" ? nodePort(threads) : webPort();
}

/** A worker's own; the types of Deno know it in workers alone. */
type PostMessage = (message: unknown, options: { readonly transfer: Transferable[] }) => void;

function webPort(): HostPort {
  const post = Reflect.get(globalThis, "postMessage") as PostMessage;
  return {
    addEventListener: (type, listener) => addEventListener(type, listener),
    removeEventListener: (type, listener) => removeEventListener(type, listener),
    postMessage: (message: unknown, transfer: Transferable[] = []) => post.call(globalThis, message, { transfer }),
  };
}

function nodePort({ parentPort: port }: Threads): HostPort | undefined {
  if (port === null) return undefined;
  type Listener = Parameters<Endpoint["addEventListener"]>[1];
  const added = new Map<Listener, (data: unknown) => void>();
  return {
    addEventListener: (_type, listener) => {
      const heard = (data: unknown): void => {
        const event = { data } as MessageEvent;
        if (typeof listener === "function") listener(event);
        else listener.handleEvent(event);
      };
      added.set(listener, heard);
      port.on("message", heard);
    },
    removeEventListener: (_type, listener) => {
      const heard = added.get(listener);
      if (heard !== undefined) port.off("message", heard);
    },
    postMessage: (message: unknown, transfer: Transferable[] = []) => {
      port.postMessage(message, transfer as Parameters<typeof port.postMessage>[1]);
    },
  };
}
