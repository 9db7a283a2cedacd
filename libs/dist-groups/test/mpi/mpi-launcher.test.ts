import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import process from "node:process";
import { MPI_IMPLEMENTATIONS, mpiRun, requireProgram, startMpi } from "./mpi-launcher.ts";

setDefaultTimeout(120_000);
const DEADLINE_MS = 60_000;

const shell = (script: string): string[] => ["sh", "-c", script];
const RANK = "$OMPI_COMM_WORLD_RANK$PMI_RANK";

async function until<T>(find: () => T | undefined): Promise<T> {
  const end = performance.now() + DEADLINE_MS;
  for (;;) {
    const found = find();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(`nothing found within ${DEADLINE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A process that was killed may be there until its parent, or the system, has taken note. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

describe.each(MPI_IMPLEMENTATIONS)("%s", (implementation) => {
  test("each rank's output is its own, with the environment that was asked for", async () => {
    const outcome = await mpiRun({
      implementation,
      processes: 3,
      command: shell(`echo "out ${RANK} $FRUIT"; echo "err ${RANK}" >&2`),
      environment: { FRUIT: "fig tree" },
      deadlineMs: DEADLINE_MS,
    });
    expect(outcome).toMatchObject({ exitCode: 0, timedOut: false, leftOver: [] });
    expect(outcome.ranks).toEqual(
      [0, 1, 2].map((rank) => ({ stdout: `out ${rank} fig tree\n`, stderr: `err ${rank}\n` })),
    );
    expect(outcome.stderr).toContain("rank 2:\nerr 2\n");
  });

  test("the exit code is the program's", async () => {
    const outcome = await mpiRun({ implementation, processes: 1, command: shell("exit 9"), deadlineMs: DEADLINE_MS });
    expect(outcome).toMatchObject({ exitCode: 9, timedOut: false });
  });

  test("at the deadline all are killed, and what was written is there", async () => {
    const running = startMpi({
      implementation,
      processes: 2,
      // A child that is in another session than its parent, and outlives it.
      command: shell(`setsid sleep 300 & echo "$!"; echo waits; sleep 300`),
      deadlineMs: 5_000,
    });
    const outcome = await running.outcome;
    expect(outcome).toMatchObject({ exitCode: null, timedOut: true });
    for (const { stdout } of outcome.ranks) {
      const [child, waits] = stdout.split("\n");
      expect(waits).toBe("waits");
      expect(isRunning(Number(child))).toBe(false);
    }
  });

  test("a rank's process can be found and killed", async () => {
    const running = startMpi({
      implementation,
      processes: 2,
      command: shell(`echo $$; exec sleep 300`),
      deadlineMs: DEADLINE_MS,
    });
    const told = await until(() => /^\d+\n/.exec(running.output(1).stdout)?.[0]);
    const pid = await until(() => running.pid(1));
    expect(pid).toBe(Number(told));
    process.kill(pid, "SIGKILL");
    const outcome = await running.outcome;
    expect(outcome).toMatchObject({ timedOut: false, leftOver: [] });
    expect(outcome.exitCode).not.toBe(0);
  });
});

test("a program that is missing is an error that says how to install it", () => {
  expect(() => requireProgram("mpirun.nowhere")).toThrow(/mpirun\.nowhere is missing.*apt-get install openmpi-bin/);
});

test("a process that outlives mpirun is told of, and killed", async () => {
  const outcome = await mpiRun({
    // MPICH's mpirun waits for such a process.
    implementation: "openmpi",
    processes: 1,
    command: shell("setsid sleep 301 >/dev/null 2>&1 & echo $!"),
    deadlineMs: DEADLINE_MS,
  });
  expect(outcome).toMatchObject({ exitCode: 0, timedOut: false, leftOver: ["sleep 301"] });
  expect(isRunning(Number(outcome.ranks[0]?.stdout))).toBe(false);
});
