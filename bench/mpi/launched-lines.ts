// A job under mpirun whose processes answer lines over a Unix socket: so both sides of the bench sleep until they are
// asked for a window, and windows of the two can alternate.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type MpiImplementation, type RunningMpi, startMpi } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";

/** Longest that a job lives, in milliseconds, and that its processes take to come. */
const JOB_MS = 3_600_000;
const START_MS = 60_000;

/** Becomes the program, with a core to itself as long as there are enough, as OpenMPI gives two processes by itself. */
const ON_A_CORE = 'exec taskset -c $(((OMPI_COMM_WORLD_RANK + PMI_RANK) % $0)) "$@"';

export interface LaunchedLinesOptions {
  readonly implementation: MpiImplementation;
  readonly processes: number;
  /** Program and arguments; the address of the socket follows. */
  readonly command: readonly string[];
  /** How many of the processes connect. */
  readonly connections: number;
  /** Arguments of mpirun before the program. */
  readonly launcherArguments?: readonly string[];
}

interface Connection {
  readonly socket: Socket;
  readonly lines: AsyncIterator<string>;
}

export class LaunchedLines implements AsyncDisposable {
  readonly #folder: string;
  readonly #server: Server;
  readonly #running: RunningMpi;
  readonly #connections: Connection[] = [];

  private constructor(folder: string, server: Server, running: RunningMpi) {
    this.#folder = folder;
    this.#server = server;
    this.#running = running;
  }

  /** Launches, and waits until all connections are there and have said who they are. */
  static async open(options: LaunchedLinesOptions): Promise<LaunchedLines> {
    const { implementation, processes, command, connections, launcherArguments = [] } = options;
    const folder = mkdtempSync(join(tmpdir(), "lockstep-bench-"));
    const path = join(folder, "socket");
    const accepted: Socket[] = [];
    const came = Promise.withResolvers<void>();
    const server = createServer((socket) => {
      accepted.push(socket);
      if (accepted.length === connections) came.resolve();
    }).listen(path);
    const running = startMpi({
      implementation,
      processes,
      command: ["sh", "-c", ON_A_CORE, String(availableParallelism()), ...command, path],
      launcherArguments,
      deadlineMs: JOB_MS,
    });
    const job = new LaunchedLines(folder, server, running);
    const late = setTimeout(() => came.reject(new Error("the job did not start in time")), START_MS);
    void running.outcome.then(({ exitCode, stderr }) => {
      came.reject(new Error(`the job ended with exit code ${exitCode}:\n${stderr}`));
    });
    try {
      await came.promise;
      for (const socket of accepted) {
        const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
        await lines.next();
        job.#connections.push({ socket, lines });
      }
    } catch (error) {
      running.kill();
      await job[Symbol.asyncDispose]();
      throw error;
    } finally {
      clearTimeout(late);
    }
    return job;
  }

  /** Sends a line to every connection; the answers, in no order. */
  async ask(line: string): Promise<string[]> {
    for (const { socket } of this.#connections) socket.write(`${line}\n`);
    return Promise.all(
      this.#connections.map(async ({ lines }) => {
        const { value, done } = await lines.next();
        if (done !== true) return value;
        const { exitCode, stderr } = await this.#running.outcome;
        throw new Error(`the job ended with exit code ${exitCode}:\n${stderr}`);
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { socket } of this.#connections) socket.end();
    await this.#running.outcome;
    this.#server.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
