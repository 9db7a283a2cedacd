// A decode step of DcpAttention over MPI beside the same step of workers that share memory: same shapes, same bits.
import { openWorld } from "@lockstep/dist-groups";
import { median } from "../openmpi/cases.ts";
import { printTable } from "../print-table.ts";
import { formatSeconds } from "../timing.ts";
import type * as program from "./step-program.ts";
import type { StepShape, StepTimes } from "./step-program.ts";
import { type Launch, LockstepSide } from "./windows.ts";

export const STEP_SHAPE: StepShape = { queryHeads: 16, kvHeads: 2, headDim: 64 };
const PROGRAM = new URL("./step-program.ts", import.meta.url);
const HEAP_BYTES = 512 << 20;
const [BATCHES, CONTEXTS] = [
  [1, 8, 32],
  [1024, 16_384],
];
/** Query tokens times context of a window, at most. */
const WINDOW_TOKENS = 1 << 20;
const [LEAST_STEPS, MOST_STEPS] = [2, 100];

/** Ranks that run decode steps. */
export interface StepSide extends AsyncDisposable {
  /** Of the slowest rank, with the checksums of all. */
  steps(count: number): Promise<{ readonly step: number; readonly attention: number; readonly checksum: string }>;
  prepare(batch: number, context: number): Promise<void>;
}

function slowest(ranks: readonly StepTimes[]): Awaited<ReturnType<StepSide["steps"]>> {
  return {
    step: Math.max(...ranks.map(({ step }) => step)) / 1e6,
    attention: Math.max(...ranks.map(({ attention }) => attention)) / 1e6,
    checksum: ranks.map(({ checksum }) => checksum.toString(16)).join(" "),
  };
}

/** Workers of this process. */
export async function workerSteps(size: number): Promise<StepSide> {
  const world = await openWorld<typeof program>({
    size,
    program: PROGRAM,
    options: STEP_SHAPE,
    heapBytesPerRank: HEAP_BYTES,
    deadlineMs: 120_000,
  });
  return {
    steps: async (count) => slowest(await world.call("steps", [count])),
    prepare: async (batch, context) => {
      await world.call("prepare", [batch, context]);
    },
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}

/** Processes of a job. */
export async function mpiSteps(launch: Launch): Promise<StepSide> {
  const options = { options: STEP_SHAPE, heapBytesPerRank: HEAP_BYTES, deadlineMs: 120_000 };
  const side = await LockstepSide.open(launch, options, PROGRAM);
  return {
    steps: async (count) => slowest((await side.call("steps", [count])) as StepTimes[]),
    prepare: async (batch, context) => {
      await side.call("prepare", [batch, context]);
    },
    [Symbol.asyncDispose]: () => side[Symbol.asyncDispose](),
  };
}

/** How many steps make a window of some milliseconds. */
export function stepsOf(batch: number, context: number): number {
  return Math.max(LEAST_STEPS, Math.min(MOST_STEPS, Math.floor(WINDOW_TOKENS / (batch * context))));
}

/** Prints the table. Throws when bits differ. */
export async function compareSteps(launch: Launch, windows: number): Promise<void> {
  await using shared = await workerSteps(launch.processes);
  await using over = await mpiSteps(launch);
  const table: string[][] = [];
  for (const context of CONTEXTS) {
    for (const batch of BATCHES) {
      const sides = [shared, over];
      for (const side of sides) await side.prepare(batch, context);
      const steps = stepsOf(batch, context);
      const times: { readonly step: number[]; readonly peers: number[] }[] = sides.map(() => ({ step: [], peers: [] }));
      let bits: string | undefined;
      for (let turn = -2; turn < windows; turn++) {
        for (const [index, side] of sides.entries()) {
          const { step, attention, checksum } = await side.steps(steps);
          bits ??= checksum;
          if (checksum !== bits) throw new Error(`batch ${batch}, ${context} tokens: bits ${checksum}, not ${bits}`);
          if (turn < 0) continue;
          times[index]?.step.push(step);
          times[index]?.peers.push(step - attention);
        }
      }
      const [inMemory, byMpi] = times;
      if (inMemory === undefined || byMpi === undefined) throw new Error("two sides were timed");
      const ratios = byMpi.step.map((step, turn) => step / (inMemory.step[turn] ?? Number.NaN));
      table.push([
        `batch ${batch}, ${context} tokens each`,
        formatSeconds(median(inMemory.step)),
        formatSeconds(median(byMpi.step)),
        median(ratios).toFixed(2),
        formatSeconds(median(inMemory.peers)),
        formatSeconds(median(byMpi.peers)),
      ]);
    }
  }
  const { queryHeads, kvHeads, headDim } = STEP_SHAPE;
  console.log(
    `\nA decode step of one layer, ${launch.implementation}, ${launch.processes} processes or workers, the same`,
  );
  console.log(
    `bits: ${queryHeads} query heads over ${kvHeads}, head dim ${headDim}, f16 KV, a2a, ${windows} windows in turn`,
  );
  const between = ["between ranks: shared", "MPI"];
  printTable(["step", "shared memory", "MPI", "ratio", ...between], table);
}
