// Asynchronous collectives and transfers between pairs, as functions that run in Bun and in Deno alike.

import assert from "node:assert/strict";
import { ArgumentError, DTYPES } from "@lockstep/tensor";
import {
  CallInterrupted,
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  type MethodsOf,
  openWorld,
  RankCrashed,
  type World,
} from "../src/index.ts";
import type { Fault } from "./fault-matrix.ts";
import { untilIn } from "./until-in.ts";

type AsyncProgram = typeof import("./async-program.ts");

/** Small, so that the cases cover both protocols. */
const STAGING_BYTES = 2048;
const SLACK_MS = 30_000;
const FOR_EVER_MS = 100_000;

function openAsyncWorld(size: number): Promise<World<MethodsOf<AsyncProgram>>> {
  return openWorld<AsyncProgram>({
    size,
    program: new URL("./async-program.ts", import.meta.url),
    heapBytesPerRank: 8 << 20,
    deadlineMs: FOR_EVER_MS,
    stagingBytes: STAGING_BYTES,
    stagedLimit: STAGING_BYTES,
  });
}

async function failureOf(promise: Promise<unknown>): Promise<Error> {
  const error: unknown = await promise.then(
    () => new assert.AssertionError({ message: "the call succeeded" }),
    (thrown: unknown) => thrown,
  );
  assert(error instanceof Error && !(error instanceof assert.AssertionError), String(error));
  return error;
}

const everyone = (size: number): number[] => Array.from({ length: size }, (_, rank) => rank);

export const ASYNC_CASES: readonly Fault[] = [
  {
    name: "async: every collective, staged and direct, with peers that block",
    sizes: [1, 2, 3, 4],
    async run(size) {
      await using world = await openAsyncWorld(size);
      for (const asyncRanks of [everyone(size), [0]]) {
        for (const count of [3, 3000]) {
          assert.deepEqual(
            await world.call("all", [count, 5, asyncRanks]),
            everyone(size).map(() => 0),
          );
        }
      }
    },
  },
  {
    name: "async: the event loop turns while a rank waits, and answers other calls",
    sizes: [3],
    async run(size) {
      await using world = await openAsyncWorld(size);
      const turns = await world.call("responsive", [1, 300]);
      for (const count of turns) assert(count >= 3, `${turns}`);
      const waiting = failureOf(world.call("waitFor", ["world", 1, 2_000]));
      assert.deepEqual(await world.call("turn", []), [1, 1, 1]);
      assert.deepEqual(await world.call("outcome", []), [undefined, undefined, undefined]);
      const error = await waiting;
      assert(error instanceof CollectiveTimeout, String(error));
      assert.deepEqual(error.missing, [1]);
      assert.deepEqual(await world.call("outcome", []), ["CollectiveTimeout", undefined, "CollectiveTimeout"]);
    },
  },
  {
    name: "async: a signal, a throwing peer and a terminated peer free those who wait",
    sizes: [3],
    async run(size) {
      await using world = await openAsyncWorld(size);
      const controller = new AbortController();
      const call = failureOf(world.call("waitFor", ["world", 1, FOR_EVER_MS], { signal: controller.signal }));
      await untilIn(world, "world", [0, 2], "waiting");
      let start = performance.now();
      controller.abort();
      assert((await call) instanceof CallInterrupted);
      // The name is taken again while the ranks of the old group are still coming out.
      await world.createGroup("world", everyone(size));
      assert(performance.now() - start < SLACK_MS);
      await world.call("all", [10, 2, everyone(size)]);
      start = performance.now();
      const thrown = await failureOf(world.call("throwWhileTheyWait", [2]));
      assert(thrown instanceof RankCrashed && thrown.rank === 2, String(thrown));
      assert(performance.now() - start < SLACK_MS);
      await world.createGroup("world", everyone(size));
      const waiting = failureOf(world.call("waitFor", ["world", 1, FOR_EVER_MS]));
      await untilIn(world, "world", [0, 2], "waiting");
      // Its answers come in order.
      await world.callRank(1, "turn", []);
      await world.terminateRank(1);
      // Rank 1 had returned from this call: what the others came out with is all there is.
      const aborted = await waiting;
      assert(aborted instanceof GroupAborted && aborted.cause instanceof RankCrashed, String(aborted));
      assert.deepEqual(aborted.failedRanks, [1]);
      await world.createGroup("rest", [0, 2]);
      const again = await Promise.all([0, 2].map((rank) => world.callRank(rank, "waitFor", ["rest", 1, 1_000])));
      assert.equal(again.length, 2);
    },
  },
  {
    name: "async: one collective of a group at a time",
    sizes: [2],
    async run(size) {
      await using world = await openAsyncWorld(size);
      assert.deepEqual(await world.call("overlapping", []), ["ReentrantCollective", "ReentrantCollective"]);
      await world.call("all", [10, 2, [1]]);
    },
  },
  {
    name: "sendRecv: rings, staged and direct, strided, blocking and not",
    sizes: [1, 2, 3, 4, 8],
    async run(size) {
      await using world = await openAsyncWorld(size);
      for (const count of [0, 1, 7, 5000])
        for (const ranks of [[], [0], everyone(size)]) await world.call("rings", [count, ranks]);
    },
  },
  {
    name: "sendRecv: one transfer, of every dtype, between every pair",
    sizes: [3],
    async run(size) {
      await using world = await openAsyncWorld(size);
      for (const dtype of DTYPES) {
        for (const count of [5, 3000]) await world.call("transfer", [0, 2, dtype, count]);
      }
      for (const from of everyone(size))
        for (const to of everyone(size)) await world.call("transfer", [from, to, "f32", 9]);
    },
  },
  {
    name: "sendRecv: a mismatch names both sides, on every rank",
    sizes: [3],
    async run(size) {
      for (const [kind, sender, receiver] of [
        ["shape", "sending f32 [4] to rank 1", "expecting f32 [5] from rank 0"],
        ["dtype", "sending f32 [4] to rank 1", "expecting i32 [4] from rank 0"],
        ["unexpected", "sending f32 [4] to rank 1", "expecting nothing"],
        ["unsent", "sending nothing", "expecting f32 [4] from rank 0"],
        ["peer", "sending f32 [4] to rank 1", "expecting f32 [4] from rank 2"],
      ] as const) {
        await using world = await openAsyncWorld(size);
        const error = await failureOf(world.call("mismatch", [kind]));
        assert(error instanceof CollectiveMismatch, String(error));
        assert.deepEqual(
          error.sides.map(({ ranks, description }) => [ranks, description]),
          [
            [[0], `sendRecv ${sender}`],
            [[1], `sendRecv ${receiver}`],
          ],
        );
      }
    },
  },
  {
    name: "sendRecv: bad arguments are refused before anything is published",
    sizes: [2],
    async run(size) {
      await using world = await openAsyncWorld(size);
      for (const [kind, argument] of [
        ["peer", "to"],
        ["overlap", "receive"],
      ] as const) {
        const error = await failureOf(world.call("refuse", [kind]));
        assert(error instanceof ArgumentError, String(error));
        assert.equal(error.argument, argument);
      }
      await world.call("rings", [5, []]);
    },
  },
];
