// The host of the interleaving test, and its command: `bun libs/dist-groups/test/interleaving/interleave.ts [--runs
// 20000] [--seed 0]` (or with `deno run -A`) runs 2, 3 and 4 ranks without and with faults, prints what it saw, and
// ends with exit code
// 1 when a result was wrong, an error was not the one it must be, a wake-up was lost, or a run did not end.

import process from "node:process";
import { readCommandLine, wholeNumber } from "../../../../scripts/command-line.ts";
import { compileReduceKernels } from "../../src/reduction/reduce.ts";
import { controlBlockLayout } from "../../src/transport/shared-memory/control-block.ts";
import { RankStatus } from "../../src/transport/shared-memory/rank-status.ts";
import { type Mutation, type RankJob, type RankReport, STAGING_BYTES } from "./rank-job.ts";
import { controlWords, type RunStatistics } from "./scheduled-atomics.ts";

const HEAP_BYTES = 64 << 10;
const PAGE_BYTES = 64 << 10;
const LINE_BYTES = 128;

export interface Interleavings {
  readonly ranks: number;
  readonly runs: number;
  readonly firstSeed: number;
  readonly withFaults: boolean;
  readonly mutation?: Mutation;
}

export interface InterleavingReport {
  /** What was not as it must be, with the seed that shows it again. */
  readonly wrong: readonly string[];
  /** One for each run, by seed. */
  readonly statistics: readonly (RunStatistics & { readonly seed: number })[];
  /** How often a rank came out of a run with the failure it had to come out with. */
  readonly failuresSeen: number;
}

/** Runs interleavings of a few random collectives on real ranks, one seed after the other. */
export async function interleave({
  ranks,
  runs,
  firstSeed,
  withFaults,
  mutation = "none",
}: Interleavings): Promise<InterleavingReport> {
  const lines = (bytes: number): number => Math.ceil(bytes / LINE_BYTES) * LINE_BYTES;
  const statusOffset = LINE_BYTES;
  const blockOffset = statusOffset + lines(RankStatus.totalWords(ranks) * 4);
  const heapOffset = blockOffset + lines(controlBlockLayout(ranks, STAGING_BYTES).totalWords * 4);
  const pages = Math.ceil((heapOffset + ranks * HEAP_BYTES) / PAGE_BYTES);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65_535, shared: true });
  const kernels = await compileReduceKernels();
  const control = new SharedArrayBuffer(controlWords(ranks) * 4);
  new Int32Array(control)[0] = -1;
  const workers: Worker[] = [];
  try {
    const reports = await Promise.all(
      Array.from({ length: ranks }, (_, rank) => {
        const worker = new Worker(new URL("./interleaved-rank.ts", import.meta.url).href, { type: "module" });
        workers.push(worker);
        const job: RankJob = {
          memory,
          kernels,
          control,
          rank,
          size: ranks,
          statusOffset,
          blockOffset,
          heapOffset: heapOffset + rank * HEAP_BYTES,
          heapBytes: HEAP_BYTES,
          firstSeed,
          runs,
          withFaults,
          mutation,
        };
        return report(worker, job);
      }),
    );
    return {
      wrong: reports.flatMap(({ wrong }) => wrong),
      statistics: reports.flatMap(({ statistics }) => statistics).sort((a, b) => a.seed - b.seed),
      failuresSeen: reports.reduce((sum, { failuresSeen }) => sum + failuresSeen, 0),
    };
  } finally {
    for (const worker of workers) worker.terminate();
  }
}

function report(worker: Worker, job: RankJob): Promise<RankReport> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<"ready" | RankReport>): void => {
      if (data === "ready") worker.postMessage(job);
      else resolve(data);
    };
    worker.onerror = (event): void => {
      event.preventDefault();
      reject(new Error(`rank ${job.rank}: ${event.message}`));
    };
  });
}

async function main(): Promise<void> {
  const NAME = "test:interleavings";
  const { values } = readCommandLine({
    name: NAME,
    does: "Runs the ranks of collectives in random interleavings of their steps, with a fault in each and without.",
    options: {
      runs: { type: "string", default: "20000", takes: "N", help: "interleavings of each case" },
      seed: { type: "string", default: "0", takes: "N", help: "of the first" },
    },
  });
  const runs = wholeNumber(NAME, "runs", values.runs, 1);
  const firstSeed = wholeNumber(NAME, "seed", values.seed, 0);
  let failed = false;
  for (const ranks of [2, 3, 4]) {
    for (const withFaults of [false, true]) {
      const started = performance.now();
      const { wrong, statistics, failuresSeen } = await interleave({ ranks, runs, firstSeed, withFaults });
      const lost = withFaults ? [] : statistics.filter(({ idleTimeouts }) => idleTimeouts > 0);
      const steps = statistics.reduce((sum, run) => sum + run.steps, 0);
      const traces = new Set(statistics.map(({ trace }) => trace)).size;
      const what = withFaults ? `a fault in each, ${failuresSeen} typed failures` : "no faults, no lost wake-up";
      const good = wrong.length === 0 && lost.length === 0 && statistics.length === runs;
      const seconds = ((performance.now() - started) / 1e3).toFixed(1);
      console.log(
        `${good ? "ok  " : "FAIL"} ${ranks} ranks: ${statistics.length} interleavings, ${traces} of them different, ` +
          `${steps} steps, ${what}, ${seconds} s`,
      );
      for (const line of wrong.slice(0, 10)) console.log(`     ${line}`);
      for (const { seed } of lost.slice(0, 10)) console.log(`     seed ${seed}: a wake-up was lost`);
      failed ||= !good;
    }
  }
  process.exitCode = failed ? 1 : 0;
}

if (import.meta.main) await main();
