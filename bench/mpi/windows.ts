// Both sides of the bench over MPI: each is a job of its own, and runs a window of calls when it is asked for one.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type MpiImplementation, requireProgram } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";
import type { CollectiveName } from "../collectives-program.ts";
import { LaunchedLines } from "./launched-lines.ts";

/** A window of calls of one collective. `bytes` is what one rank brings, as in openmpi/cases.ts. */
export interface Window {
  readonly name: CollectiveName | "ping-pong";
  readonly bytes: number;
  readonly calls: number;
}

/** Processes, and how they are launched. */
export interface Launch {
  readonly implementation: MpiImplementation;
  readonly processes: number;
  /** Arguments of mpirun before the program. */
  readonly launcherArguments?: readonly string[];
}

/** How C does it: MPI's own collective, or a header and then the data (see mpi-windows.c). */
export type CWay = "plain" | "header";

const SOURCE = fileURLToPath(new URL("./mpi-windows.c", import.meta.url));
const JOB = fileURLToPath(new URL("./lockstep-job.ts", import.meta.url));
const WINDOWS_PROGRAM = new URL("../openmpi/lockstep-program.ts", import.meta.url);

/** The C program's processes. */
export class CSide implements AsyncDisposable {
  readonly #job: LaunchedLines;
  #batch = 0;

  private constructor(job: LaunchedLines) {
    this.#job = job;
  }

  static async open(launch: Launch): Promise<CSide> {
    const command = [build(launch.implementation)];
    return new CSide(await LaunchedLines.open({ ...launch, command, connections: launch.processes }));
  }

  /** Seconds of a call, of the slowest rank. Throws when data were wrong. */
  async window(way: CWay, { name, bytes, calls }: Window): Promise<number> {
    const answers = await this.#job.ask(`${way} ${name} ${bytes} ${calls} ${++this.#batch}`);
    const wrong = answers.find((answer) => Number.isNaN(Number(answer)));
    if (wrong !== undefined) throw new Error(`C, ${way}: ${wrong}`);
    return Math.max(...answers.map(Number));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#job[Symbol.asyncDispose]();
  }
}

/** A world over MPI whose ranks, one a process, run the methods of a program. */
export class LockstepSide implements AsyncDisposable {
  readonly #job: LaunchedLines;
  #batch = 0;

  private constructor(job: LaunchedLines) {
    this.#job = job;
  }

  /** `options` of the world, as far as JSON can tell them; `program` runs windows unless another is given. */
  static async open(launch: Launch, options: object = {}, program = WINDOWS_PROGRAM): Promise<LockstepSide> {
    const command = [process.execPath, JOB, program.href, JSON.stringify(options)];
    return new LockstepSide(await LaunchedLines.open({ ...launch, command, connections: 1 }));
  }

  /** What a method returns on every rank. */
  async call(method: string, args: readonly unknown[]): Promise<unknown[]> {
    const [answer = ""] = await this.#job.ask(JSON.stringify([method, args]));
    const { values, error } = JSON.parse(answer) as { readonly values?: unknown[]; readonly error?: string };
    if (values === undefined) throw new Error(`Lockstep: ${error}`);
    return values;
  }

  /** Seconds of a call, of the slowest rank. Throws when data were wrong. */
  async window(window: Window): Promise<number> {
    return Math.max(...(await this.call("window", [window, ++this.#batch])).map(Number));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#job[Symbol.asyncDispose]();
  }
}

/** Builds mpi-windows.c for one library when it is newer than its binary, whose path is returned. */
function build(implementation: MpiImplementation): string {
  const binary = join(dirname(SOURCE), `build/mpi-windows-${implementation}`);
  if (existsSync(binary) && statSync(binary).mtimeMs > statSync(SOURCE).mtimeMs) return binary;
  mkdirSync(dirname(binary), { recursive: true });
  const compiler = requireProgram(`mpicc.${implementation}`);
  const { status, stderr } = spawnSync(compiler, ["-O3", "-march=native", "-o", binary, SOURCE], { encoding: "utf8" });
  if (status !== 0) throw new Error(`${compiler} ended with exit code ${status}:\n${stderr}`);
  return binary;
}
