// Processes of a job that are killed, stopped or interrupted: the job ends with an error, and no process is left.
//
// What launchers do by themselves where one process dies: both end the job. OpenMPI's `--enable-recovery` lets the
// others live. MPICH's `-disable-auto-cleanup` does not: Hydra's proxy of the host ends with the process, and takes the
// others with it.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { CollectiveTimeout, GroupAborted, RankCrashed } from "../../src/index.ts";
import { DrivenJob, type JobOptions, type Settled } from "./driven-job.ts";
import { MPI_IMPLEMENTATIONS, type MpiImplementation, mpiRun } from "./mpi-launcher.ts";

setDefaultTimeout(120_000);

const PROGRAM = new URL("../fault-program.ts", import.meta.url).href;
/** Longer than any job here takes on a busy machine. */
const DEADLINE_MS = 90_000;
const GROUP_DEADLINE_MS = 2_000;
const RANKS = 3;
const QUICK_TO_GIVE_UP = { LOCKSTEP_MPI_SILENCE_MS: "3000" };

/** A job of a rank a process that computes together until something ends that, or waits for calls. */
async function startJob(
  implementation: MpiImplementation,
  state: "idle" | "busy",
  options: Partial<JobOptions> = {},
): Promise<{ readonly job: DrivenJob; readonly answers: readonly Promise<Settled>[] }> {
  const job = new DrivenJob({ implementation, processes: RANKS, deadlineMs: DEADLINE_MS, ...options });
  await job.open({ size: RANKS, program: PROGRAM, heapBytesPerRank: 8 << 20, deadlineMs: GROUP_DEADLINE_MS });
  await Promise.all(job.start(RANKS, "work", ["world", 3]));
  return { job, answers: state === "busy" ? job.start(RANKS, "workForever", ["world"]) : [] };
}

/** The job has ended with an error, in time, and nothing of it runs any more. */
async function expectFailedEnd(job: DrivenJob): Promise<void> {
  const { exitCode, timedOut, leftOver } = await job.end();
  expect({ timedOut, leftOver }).toEqual({ timedOut: false, leftOver: [] });
  expect(exitCode).not.toBe(0);
}

describe.each(MPI_IMPLEMENTATIONS)("%s", (implementation) => {
  test.each([
    ["a follower", 1, "busy"],
    ["a follower", 2, "idle"],
    ["the first process", 0, "busy"],
  ] as const)("ends the job when %s (%i) is killed, %s", async (_, victim, state) => {
    const { job, answers } = await startJob(implementation, state);
    job.signal(victim, "SIGKILL");
    await job.outcome;
    for (const answer of answers) expect(await answer).toHaveProperty("error");
    await expectFailedEnd(job);
  });

  test("ends the job when the first process is stopped", async () => {
    const { job } = await startJob(implementation, "idle", { environment: QUICK_TO_GIVE_UP });
    job.signal(0, "SIGSTOP");
    const { stderr } = await job.outcome;
    expect(stderr).toContain("the first process has been silent for");
    await expectFailedEnd(job);
  });

  test("names a stopped process on all others by the deadline, then takes its rank for dead", async () => {
    const { job, answers } = await startJob(implementation, "busy");
    job.signal(1, "SIGSTOP");
    const outcomes = await Promise.all(answers);
    for (const rank of [0, 2]) {
      const error = errorOf(outcomes[rank]);
      // Stopped between two of its sends, it may have held one of them up a collective before the other.
      const timeout = error instanceof GroupAborted ? error.cause : error;
      expect(timeout).toBeInstanceOf(CollectiveTimeout);
      expect((timeout as CollectiveTimeout).missing).toContain(1);
    }
    const lost = errorOf(outcomes[1]);
    expect(lost).toBeInstanceOf(RankCrashed);
    // Its process is silent, and so is the rank itself: whichever is noticed first.
    expect(lost?.message).toMatch(/fell silent|heartbeat/);
    await job.close();
    await expectFailedEnd(job);
  });

  test.each(["SIGINT", "SIGTERM"] as const)("leaves no process after %s to the launcher", async (signal) => {
    const { job } = await startJob(implementation, "busy");
    job.signalLauncher(signal);
    await job.outcome;
    await expectFailedEnd(job);
  });

  test("ends the job when its program throws", async () => {
    const { exitCode, timedOut, leftOver, ranks } = await mpiRun({
      implementation,
      processes: RANKS,
      command: [process.execPath, fileURLToPath(new URL("./throwing-program.ts", import.meta.url))],
      deadlineMs: DEADLINE_MS,
    });
    expect(ranks[0]?.stderr).toContain("thrown by the program");
    expect({ exitCode, timedOut, leftOver }).toEqual({ exitCode: 1, timedOut: false, leftOver: [] });
  });
});

test("openmpi: processes that outlive the first one end by themselves", async () => {
  const launcherArguments = ["--enable-recovery"];
  const { job } = await startJob("openmpi", "idle", { launcherArguments, environment: QUICK_TO_GIVE_UP });
  job.signal(0, "SIGKILL");
  const { timedOut, leftOver } = await job.outcome;
  expect({ timedOut, leftOver }).toEqual({ timedOut: false, leftOver: [] });
  await job.end();
});

function errorOf(settled: Settled | undefined): Error | undefined {
  return settled !== undefined && "error" in settled ? settled.error : undefined;
}
