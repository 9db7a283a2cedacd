// Runs programs under `mpirun` for tests: with the flags that each implementation needs in a container (root, more
// processes than cores), a file of output for each rank, a deadline, and the end of every process at the end.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** MPI implementations that the tests run on; each with its own launcher. */
export type MpiImplementation = "openmpi" | "mpich";

export const MPI_IMPLEMENTATIONS: readonly MpiImplementation[] = ["openmpi", "mpich"];

/** What to launch, and for how long. */
export interface MpiLaunch {
  readonly implementation: MpiImplementation;
  /** How many processes. */
  readonly processes: number;
  /** Program and arguments that every process runs, such as `[process.execPath, "program.ts"]`. */
  readonly command: readonly string[];
  /** Variables of the environment of all processes, besides this process's own. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Arguments of mpirun before the program, such as `["--host", "a,b"]`. */
  readonly launcherArguments?: readonly string[];
  /** Program and arguments that mpirun is started by, such as `["ip", "netns", "exec", "a"]`. */
  readonly startedBy?: readonly string[];
  /** Milliseconds after which all processes are killed. */
  readonly deadlineMs: number;
}

/** What one process wrote. */
export interface RankOutput {
  readonly stdout: string;
  readonly stderr: string;
}

/** How a launch ended. */
export interface MpiOutcome {
  /** Exit code of mpirun; null when it was killed. */
  readonly exitCode: number | null;
  /** Whether the deadline passed, and all was killed. */
  readonly timedOut: boolean;
  /** What each process wrote, by rank. Complete also when it was killed. */
  readonly ranks: readonly RankOutput[];
  /** What mpirun wrote, and then what the ranks wrote to stderr. */
  readonly stderr: string;
  /** Processes that were there {@link GRACE_MS} after mpirun had ended, and were killed: command lines. */
  readonly leftOver: readonly string[];
}

/** A launch under way. */
export interface RunningMpi {
  /** Resolves once mpirun has ended and no process of the launch is left. */
  readonly outcome: Promise<MpiOutcome>;
  /** Process id of a rank's program; undefined while or when it does not run. */
  pid(rank: number): number | undefined;
  /** What a rank has written so far. */
  output(rank: number): RankOutput;
  /** Process id of mpirun. */
  readonly launcher: number | undefined;
  /** Kills every process of the launch. */
  kill(): void;
}

/** How long processes may outlive mpirun, in milliseconds, before they count as left over. */
const GRACE_MS = 10_000;
const ADVICE =
  "install both MPI implementations: `apt-get install openmpi-bin libopenmpi-dev mpich libmpich-dev`, or as root " +
  "`bun scripts/setup.ts --mpi`";
/** Marks the environment of every process of a launch, by which they are found. */
const MARK = "LOCKSTEP_TEST_MPI_LAUNCH";
/** Where the processes write their output. */
const FOLDER = "LOCKSTEP_TEST_MPI_FOLDER";
/** Becomes the program, with its output in files of its rank. */
const TO_FILES = [
  `output="$${FOLDER}/\${OMPI_COMM_WORLD_RANK:-$PMI_RANK}"`,
  'exec "$@" >"$output.stdout" 2>"$output.stderr"',
].join("; ");

let launches = 0;

/** Launches, and waits for the end. @throws Error when mpirun is not installed, saying how to install it */
export function mpiRun(launch: MpiLaunch): Promise<MpiOutcome> {
  return startMpi(launch).outcome;
}

/** Launches. @throws Error when mpirun is not installed, saying how to install it */
export function startMpi(launch: MpiLaunch): RunningMpi {
  const mpirun = requireProgram(`mpirun.${launch.implementation}`);
  const mark = `${process.pid}-${++launches}`;
  // Kept by the memory file system where there is one: OpenMPI maps files of the session.
  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "lockstep-mpi-"));
  const [first = "", ...rest] = [
    ...(launch.startedBy ?? []),
    mpirun,
    ...flags(launch.implementation, folder),
    "-n",
    String(launch.processes),
    ...(launch.launcherArguments ?? []),
    ...["sh", "-c", TO_FILES, "sh"],
    ...launch.command,
  ];
  const environment = { ...withoutMpi(process.env), ...launch.environment, [MARK]: mark, [FOLDER]: folder };
  const child = spawn(first, rest, { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  const kill = (): void => killAll(mark);
  const output = (rank: number): RankOutput => ({
    stdout: contents(join(folder, `${rank}.stdout`)),
    stderr: contents(join(folder, `${rank}.stderr`)),
  });
  const outcome = outcomeOf(child, launch, mark, folder, output);
  return { outcome, pid: (rank) => pidOf(mark, rank), output, launcher: child.pid, kill };
}

/** Path of an installed program. @throws Error saying how to install it */
export function requireProgram(name: string): string {
  const { status, stdout } = spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" });
  const path = stdout.trim();
  if (status !== 0 || path === "") throw new Error(`${name} is missing, and tests of MPI need it: ${ADVICE}`);
  return path;
}

function flags(implementation: MpiImplementation, folder: string): string[] {
  if (implementation === "mpich") return ["-bind-to", "none"];
  const parameters = {
    // The session's files and the shared memory go with the launch's folder, also when all is killed.
    orte_tmpdir_base: folder,
    btl_vader_backing_directory: folder,
    // Containers forbid the system call that the other mechanism needs, at times.
    btl_vader_single_copy_mechanism: "none",
  };
  return [
    "--allow-run-as-root",
    "--oversubscribe",
    ...["--bind-to", "none"],
    ...Object.entries(parameters).flatMap(([name, value]) => ["--mca", name, value]),
  ];
}

/** The environment without what another launcher left in it: a test may itself run under one. */
function withoutMpi(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const foreign = /^(OMPI_(?!MCA_)|PMI_|PMIX_|SLURM_|LOCKSTEP_MPI_)/;
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !foreign.test(name)));
}

async function outcomeOf(
  child: ChildProcess,
  launch: MpiLaunch,
  mark: string,
  folder: string,
  output: (rank: number) => RankOutput,
): Promise<MpiOutcome> {
  let written = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      written += text;
    });
  }
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killAll(mark);
  }, launch.deadlineMs);
  try {
    const exitCode = await new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      // Not "close": a process that is left over may hold the pipes open.
      child.on("exit", resolve);
    });
    const leftOver = timedOut ? [] : await endOf(mark);
    killAll(mark);
    await endOf(mark);
    const ranks = Array.from({ length: launch.processes }, (_, rank) => output(rank));
    const errors = ranks.map(({ stderr }, rank) => (stderr === "" ? "" : `rank ${rank}:\n${stderr}`));
    return { exitCode, timedOut, ranks, stderr: [written, ...errors].join(""), leftOver };
  } finally {
    clearTimeout(timer);
    killAll(mark);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Waits for the processes of a launch to end; command lines of those that do not. */
async function endOf(mark: string): Promise<string[]> {
  const end = performance.now() + GRACE_MS;
  while (processesOf(mark).length > 0 && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return processesOf(mark).map(({ pid }) => contents(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim());
}

interface MarkedProcess {
  readonly pid: number;
  /** Its number in the launch; undefined for mpirun and its helpers. */
  readonly rank: number | undefined;
}

/** Processes of a launch that run, by their environment: parents do not tell, as orphans get others. */
function processesOf(mark: string): MarkedProcess[] {
  return readdirSync("/proc").flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    const variables = contents(`/proc/${entry}/environ`).split("\0");
    if (!variables.includes(`${MARK}=${mark}`)) return [];
    const rank = variables
      .map((variable) => /^(?:OMPI_COMM_WORLD_RANK|PMI_RANK)=(\d+)$/.exec(variable)?.[1])
      .find((value) => value !== undefined);
    return [{ pid: Number(entry), rank: rank === undefined ? undefined : Number(rank) }];
  });
}

/** The oldest process of a rank is its program; others it has started. */
function pidOf(mark: string, rank: number): number | undefined {
  const pids = processesOf(mark).flatMap((found) => (found.rank === rank ? [found.pid] : []));
  return pids.length === 0 ? undefined : Math.min(...pids);
}

function killAll(mark: string): void {
  // Again until none is left: a process may have been starting another one.
  for (let round = 0; round < 5; round++) {
    const found = processesOf(mark);
    if (found.length === 0) return;
    for (const { pid } of found) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
  }
}

/** The text of a file, or of a process's file; empty when there is none. */
function contents(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
