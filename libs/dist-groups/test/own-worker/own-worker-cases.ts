// Worlds whose workers are the caller's own, as functions that run in Bun, Deno and Node alike: the fault matrix over
// such ranks, and every way in which a worker is no rank.

import assert from "node:assert/strict";
import { ArgumentError, builtinModule, RUNTIME } from "@lockstep/tensor";
import { openWorld, RankCrashed, type RankWorkerSource, type WorkerLike, WorldStartFailed } from "../../src/index.ts";
import { type Fault, FAULTS } from "../fault-matrix.ts";

type FaultProgram = typeof import("../fault-program.ts");

const rankModule = new URL("./fault-rank.ts", import.meta.url);

/** A worker of the test's own; in Node, which has no `Worker`, one of `node:worker_threads`. */
function start(name = "own worker"): WorkerLike {
  const threads = builtinModule<typeof import("node:worker_threads")>("node:worker_threads");
  if (RUNTIME === "node" && threads !== undefined) return new threads.Worker(rankModule, { name });
  return new Worker(rankModule, { type: "module", name });
}

const fromFactory: RankWorkerSource = (rank) => start(`own rank ${rank}`);

async function failureOf(worker: RankWorkerSource, size: number, startDeadlineMs?: number): Promise<Error> {
  const opening = openWorld<FaultProgram>({ size, worker, heapBytesPerRank: 1 << 20, startDeadlineMs });
  const error: unknown = await opening.then(
    (world) => world.close(),
    (thrown: unknown) => thrown,
  );
  assert(error instanceof Error, "the world opened");
  return error;
}

/** A world that does not open, because `file` makes no rank; `text`: what its error tells. */
function noRank(name: string, file: string, text: RegExp, startDeadlineMs?: number): Fault {
  return {
    name: `own worker: ${name}`,
    sizes: [1, 3],
    async run(size) {
      const error = await failureOf(new URL(file, import.meta.url), size, startDeadlineMs);
      assert(error instanceof WorldStartFailed, `${error.stack}`);
      assert.match(error.message, text);
    },
  };
}

const WAYS_TO_START: readonly Fault[] = [
  ["by URL", rankModule],
  ["by text", rankModule.href],
  ["by factory", fromFactory],
].map(([name, worker]) => ({
  name: `own worker: ranks ${name}`,
  sizes: [1, 2, 4],
  async run(size) {
    await using world = await openWorld<FaultProgram>({ size, worker: worker as RankWorkerSource });
    await world.call("work", ["world", 20]);
    assert.deepEqual(
      await world.call("name", []),
      Array.from({ length: size }, (_, rank) => `rank ${rank}`),
    );
    assert.equal(new Set(await world.call("digest", [])).size, 1);
  },
}));

const NO_RANKS: readonly Fault[] = [
  noRank("never ready", "./silent-worker.ts", /within 700 ms.*has to call runRank/s, 700),
  noRank("says something else", "./no-rank-worker.ts", /within 700 ms.*has to call runRank/s, 700),
  noRank("throws at import", "./throwing-worker.ts", /thrown at import.*has to call runRank/s),
  noRank("a module that does not exist", "./no-such-rank.ts", /no-such-rank|could not be loaded/),
  noRank("runRank without a setup", "./no-program-rank.ts", /runRank: `program` must be a module/),
  {
    name: "own worker: runRank twice",
    sizes: [1],
    async run(size) {
      const error = await failureOf(new URL("./twice-rank.ts", import.meta.url), size);
      assert.match(error.message, /runRank was called a second time/);
    },
  },
  {
    name: "own worker: a factory that returns a worker twice",
    sizes: [2, 3],
    async run(size) {
      const one = start();
      const error = await failureOf(() => one, size);
      assert(error instanceof ArgumentError, `${error.stack}`);
      assert.match(error.message, /a worker of its own for each rank/);
      // That of an earlier world, which is over.
      assert((await failureOf(() => one, 1)) instanceof ArgumentError);
    },
  },
  {
    name: "own worker: a factory that returns a worker of an open world",
    sizes: [1],
    async run(size) {
      const one = start();
      await using world = await openWorld<FaultProgram>({ size, worker: () => one });
      assert((await failureOf(() => one, size)) instanceof ArgumentError);
      assert.deepEqual(await world.call("name", []), ["rank 0"]);
    },
  },
  {
    name: "own worker: a factory that throws",
    sizes: [2],
    async run(size) {
      let started: WorkerLike | undefined;
      const error = await failureOf((rank) => {
        if (rank === 1) throw new RangeError("no more workers");
        started = start();
        return started;
      }, size);
      assert(error instanceof WorldStartFailed && error.cause instanceof RangeError);
      assert.deepEqual(error.ranks, [1]);
      assert(started !== undefined);
    },
  },
  {
    name: "own worker: a factory that returns no worker",
    sizes: [1],
    async run(size) {
      for (const strange of [undefined, null, 5, {}, new EventTarget()]) {
        const error = await failureOf(() => strange as never, size);
        assert(error instanceof ArgumentError, String(error));
        assert.equal(error.argument, "worker");
      }
    },
  },
  {
    name: "own worker: one that its owner terminates",
    sizes: [2],
    async run(size) {
      const workers: WorkerLike[] = [];
      await using world = await openWorld<FaultProgram>({
        size,
        deadlineMs: 2_000,
        worker(rank) {
          const worker = start();
          workers[rank] = worker;
          return worker;
        },
      });
      workers[1]?.terminate();
      const error: unknown = await world.call("work", ["world", 1]).catch((thrown: unknown) => thrown);
      assert(error instanceof Error, "the call succeeded");
      if (RUNTIME === "bun" || RUNTIME === "node")
        assert(error instanceof RankCrashed && error.rank === 1, String(error));
    },
  },
];

/** Of each fault its fewest ranks. */
const FAULTS_OF_OWN_WORKERS: readonly Fault[] = FAULTS.map(({ name, sizes, run }, index) => ({
  name: `own worker: ${name}`,
  sizes: sizes.slice(0, 1),
  run: (size) => run(size, { worker: index % 2 === 0 ? rankModule : fromFactory }),
}));

export const OWN_WORKER_CASES: readonly Fault[] = [...WAYS_TO_START, ...NO_RANKS, ...FAULTS_OF_OWN_WORKERS];
