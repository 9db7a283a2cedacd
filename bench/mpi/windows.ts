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

/** How C does it: MPI's own collective, or a header and then the data (see mpi-windows.c). */
export type CWay = "plain" | "header";

const SOURCE = fileURLToPath(new URL("./mpi-windows.c", import.meta.url));
const JOB = fileURLToPath(new URL("./lockstep-job.ts", import.meta.url));

/** The C program's processes. */
export class CSide implements AsyncDisposable {
  readonly #job: LaunchedLines;
  #batch = 0;

  private constructor(job: LaunchedLines) {
    this.#job = job;
  }

  static async open(
    implementation: MpiImplementation,
    processes: number,
    launcherArguments: readonly string[] = [],
  ): Promise<CSide> {
    const command = [build(implementation)];
    return new CSide(
      await LaunchedLines.open({ implementation, processes, command, connections: processes, launcherArguments }),
    );
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

/** Lockstep's processes: a rank each. */
export class LockstepSide implements AsyncDisposable {
  readonly #job: LaunchedLines;
  #batch = 0;

  private constructor(job: LaunchedLines) {
    this.#job = job;
  }

  static async open(
    implementation: MpiImplementation,
    processes: number,
    launcherArguments: readonly string[] = [],
  ): Promise<LockstepSide> {
    const command = [process.execPath, JOB];
    return new LockstepSide(
      await LaunchedLines.open({ implementation, processes, command, connections: 1, launcherArguments }),
    );
  }

  /** Seconds of a call, of the slowest rank. Throws when data were wrong. */
  async window(window: Window): Promise<number> {
    const [answer = ""] = await this.#job.ask(JSON.stringify([window, ++this.#batch]));
    const seconds: unknown = JSON.parse(answer);
    if (typeof seconds !== "number") throw new Error(`Lockstep: ${String(seconds)}`);
    return seconds;
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
  const args = ["-O3", "-march=native", "-Wall", "-o", binary, SOURCE];
  const { status, stderr } = spawnSync(compiler, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${compiler} ended with exit code ${status}:\n${stderr}`);
  return binary;
}
