// A side as the bench sees it: a process that listens, and carries out loads of its own.
import { fileURLToPath } from "node:url";
import { REAL_TIME } from "../peer/sides.ts";
import { type Load, runClients } from "./clients.ts";
import { askOverHttp } from "./http-client.ts";
import type { Job, Order, Ready } from "./orders.ts";
import { piecesOf } from "./pieces.ts";

/** How long a side may take to open its model, or for a load. */
const DEADLINE_MS = 300_000;
/** How long it may take to end. */
const CLOSING_MS = 10_000;

/** Where the clients are: in the process of the engine, or in the bench's, over HTTP. */
export type Level = "library" | "http";

export class SideProcess implements AsyncDisposable {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string, void>;
  readonly #script: string;
  #ready: Ready | undefined;

  private constructor(script: string, job: Job, isRealTime: boolean) {
    this.#script = script;
    const file = fileURLToPath(new URL(script, import.meta.url));
    const command = [...(isRealTime ? REAL_TIME : []), process.execPath, file, JSON.stringify(job)];
    this.#child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
    this.#lines = piecesOf(this.#child.stdout, "\n");
  }

  /** Starts a side and waits until it listens. @throws Error when it ends before, or takes too long */
  static async open(script: string, job: Job, isRealTime = false): Promise<SideProcess> {
    const side = new SideProcess(script, job, isRealTime);
    try {
      side.#ready = await side.#read<Ready>("open its model");
      return side;
    } catch (error) {
      await side[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** In words, what it runs on. */
  get about(): string {
    return this.#ready?.about ?? "";
  }

  /** Has `clients` ask for all of `requests`. @throws Error when the side ends, or takes too long */
  run(level: Level, { requests, clients }: Order): Promise<Load> {
    if (level === "http") {
      const url = this.#ready?.url ?? "";
      return inTime(
        runClients(requests, clients, (request) => askOverHttp(url, request)),
        `${this.#script} to answer`,
      );
    }
    this.#child.stdin.write(`${JSON.stringify({ requests, clients })}\n`);
    this.#child.stdin.flush();
    return this.#read<Load>("carry out a load");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), CLOSING_MS);
    await this.#child.exited;
    clearTimeout(timer);
  }

  async #read<T>(what: string): Promise<T> {
    const { done, value } = await inTime(this.#lines.next(), `${this.#script} to ${what}`);
    if (done || value === undefined)
      throw new Error(`${this.#script} ended when it was to ${what}; its messages are above`);
    return JSON.parse(value);
  }
}

async function inTime<T>(promise: Promise<T>, what: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`waited for ${what}, but not longer than ${DEADLINE_MS / 1000} s`)),
    DEADLINE_MS,
  );
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
