// What `openWorld` takes for a worker and for the address of a module. Types of our own, to which the real ones can be
// given: so the declarations need neither the types of browsers nor those of Node.

/** Address of a module: a `URL`, as `new URL("./program.ts", import.meta.url)`, or its text. */
export type ModuleAddress = string | { readonly href: string };

/** What is used of a `Worker` of browsers, Bun and Deno. */
export interface WebWorkerLike {
  /** Sends `message`, and gives away what `transfer` lists. */
  postMessage(message: unknown, transfer: never[]): void;
  /** Calls `listener` at each event of this `type`: `message`, `error`, `messageerror`. */
  addEventListener(type: string, listener: (event: object) => void): void;
  /** Undoes `addEventListener` of the same `type`. */
  removeEventListener(type: string, listener: (event: object) => void): void;
  /** Ends the worker. */
  terminate(): unknown;
}

/** What is used of a `Worker` of `node:worker_threads`. */
export interface NodeWorkerLike {
  /** Sends `message`, and gives away what `transfer` lists. */
  postMessage(message: unknown, transfer: never[]): void;
  /** Calls `listener` with what each `event` brings. */
  on(event: string, listener: (value: unknown) => void): unknown;
  /** Ends the worker. */
  terminate(): unknown;
}

/** A worker: of browsers, Bun and Deno, or of `node:worker_threads`. */
export type WorkerLike = WebWorkerLike | NodeWorkerLike;

/**
 * A worker of your own for each rank, whose module calls `runRank` of `@lockstep/dist-groups/rank`: the address of the
 * module, or a function that starts the worker of a rank.
 */
export type RankWorkerSource = ModuleAddress | ((rank: number) => WorkerLike);
