// A job under mpirun that a test drives: it opens one world after the other in it, and calls their methods.

import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { fromPlainError } from "../../src/errors/plain-error.ts";
import type { FlightRecord } from "../../src/index.ts";
import { type DriverCommand, type DriverEvent, DRIVER_SOCKET } from "./driver-protocol.ts";
import { FrameReader, writeFrame } from "./frames.ts";
import { type MpiImplementation, type MpiOutcome, type RunningMpi, startMpi } from "./mpi-launcher.ts";

/** How a rank came out of a call. */
export type Settled = { readonly value: unknown } | { readonly error: Error };

export interface JobOptions {
  readonly implementation: MpiImplementation;
  readonly processes: number;
  /** Runtime and its arguments, before the program. Bun by default. */
  readonly runtime?: readonly string[];
  readonly launcherArguments?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly deadlineMs?: number;
}

const JOB_DEADLINE_MS = 600_000;
const START_MS = 60_000;

let jobs = 0;

type WithoutId<Command> = Command extends unknown ? Omit<Command, "id"> : never;

interface Pending {
  readonly event: (event: DriverEvent) => void;
  readonly fail: (error: Error) => void;
}

export class DrivenJob implements AsyncDisposable {
  readonly processes: number;
  readonly #running: RunningMpi;
  readonly #server: Server;
  readonly #socket: Promise<Socket>;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;

  constructor(options: JobOptions) {
    const { implementation, processes, runtime = [process.execPath], launcherArguments = [] } = options;
    this.processes = processes;
    const path = join(tmpdir(), `lockstep-driver-${process.pid}-${++jobs}.sock`);
    const connected = Promise.withResolvers<Socket>();
    this.#server = createServer((socket) => {
      const reader = new FrameReader<DriverEvent>((event) => this.#pending.get(event.id)?.event(event));
      socket.on("data", (bytes) => reader.take(bytes));
      socket.on("error", () => undefined);
      connected.resolve(socket);
    }).listen(path);
    this.#socket = connected.promise;
    this.#running = startMpi({
      implementation,
      processes,
      command: [...runtime, fileURLToPath(new URL("./job-driver.ts", import.meta.url))],
      environment: { [DRIVER_SOCKET]: path, ...options.environment },
      launcherArguments,
      deadlineMs: options.deadlineMs ?? JOB_DEADLINE_MS,
    });
    const late = setTimeout(() => connected.reject(new Error("the job did not start")), START_MS);
    connected.promise.then(
      () => clearTimeout(late),
      () => this.#running.kill(),
    );
    this.#running.outcome.then((outcome) => {
      const ended = new Error(`the job ended: exit code ${outcome.exitCode}\n${outcome.stderr}`);
      connected.reject(ended);
      for (const { fail } of this.#pending.values()) fail(ended);
    });
  }

  /** How the job ended, when it has. */
  get outcome(): Promise<MpiOutcome> {
    return this.#running.outcome;
  }

  /** Sends a signal to mpirun. */
  signalLauncher(signal: NodeJS.Signals): void {
    if (this.#running.launcher !== undefined) process.kill(this.#running.launcher, signal);
  }

  /** Sends a signal to a process of the job. */
  signal(number: number, signal: NodeJS.Signals): void {
    const pid = this.pid(number);
    if (pid === undefined) throw new Error(`process ${number} does not run`);
    process.kill(pid, signal);
  }

  /** Process id of a process of the job. */
  pid(process: number): number | undefined {
    return this.#running.pid(process);
  }

  async #ask(
    command: WithoutId<DriverCommand>,
    onEvent: (event: DriverEvent) => void = () => undefined,
  ): Promise<void> {
    const id = this.#nextId++;
    const socket = await this.#socket;
    await new Promise<void>((resolve, reject) => {
      this.#pending.set(id, {
        event: (event) => {
          if (event.kind !== "done") return onEvent(event);
          if (event.error === undefined) resolve();
          else reject(fromPlainError(event.error));
        },
        fail: reject,
      });
      writeFrame(socket, { ...command, id });
    }).finally(() => this.#pending.delete(id));
  }

  /** Opens a world, by the options of `openWorld`. */
  open(options: unknown): Promise<void> {
    return this.#ask({ kind: "open", options });
  }

  /** Calls a method on every rank of the open world, of `size` ranks. */
  start(size: number, method: string, args: readonly unknown[]): Promise<Settled>[] {
    const outcomes = Array.from({ length: size }, () => Promise.withResolvers<Settled>());
    this.#ask({ kind: "call", method, args }, (event) => {
      if (event.kind !== "answer") return;
      const { outcome } = event;
      outcomes[event.rank]?.resolve("error" in outcome ? { error: fromPlainError(outcome.error) } : outcome);
    }).catch((error: Error) => {
      for (const outcome of outcomes) outcome.resolve({ error });
    });
    return outcomes.map(({ promise }) => promise);
  }

  /** Ends the worker of a rank. */
  kill(rank: number): Promise<void> {
    return this.#ask({ kind: "kill", rank });
  }

  /** Renews the groups of the open world. */
  renew(): Promise<void> {
    return this.#ask({ kind: "renew" });
  }

  async flightRecord(): Promise<FlightRecord> {
    let record: unknown;
    await this.#ask({ kind: "flight" }, (event) => {
      if (event.kind === "flight") record = event.record;
    });
    return record as FlightRecord;
  }

  /** Closes the open world. */
  close(): Promise<void> {
    return this.#ask({ kind: "close" });
  }

  /** Ends the job: all processes by themselves. */
  async end(): Promise<MpiOutcome> {
    (await this.#socket.catch(() => undefined))?.end();
    const outcome = await this.#running.outcome;
    this.#server.close();
    return outcome;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}
