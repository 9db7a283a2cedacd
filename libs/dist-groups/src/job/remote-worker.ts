import type { WebWorkerLike } from "../site/worker-like.ts";

type Listener = (event: object) => void;

/** What a remote worker asks its process for. */
export interface RemoteEnd {
  /** Throws what cannot be cloned. */
  send(message: unknown): void;
  terminate(): void;
}

/** The worker of a rank of another process, as its leader uses it: like one of its own. */
export class RemoteWorker implements WebWorkerLike {
  readonly #end: RemoteEnd;
  readonly #listeners = new Map<string, Set<Listener>>();
  #isTerminated = false;

  constructor(end: RemoteEnd) {
    this.#end = end;
  }

  postMessage(message: unknown): void {
    if (!this.#isTerminated) this.#end.send(message);
  }

  terminate(): void {
    if (this.#isTerminated) return;
    this.#isTerminated = true;
    this.#end.terminate();
  }

  addEventListener(type: string, listener: Listener): void {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners);
    listeners.add(listener);
  }

  removeEventListener(type: string, listener: Listener): void {
    this.#listeners.get(type)?.delete(listener);
  }

  /** Something happened to the worker. */
  dispatch(type: string, event: object): void {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) listener(event);
  }
}
