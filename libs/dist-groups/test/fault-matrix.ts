// The faults a world must come out of, as functions that run in Bun and in Deno alike.

import assert from "node:assert/strict";
import { ArgumentError, Tensor } from "@lockstep/tensor";
import {
  type CommonWorldOptions,
  type RankCode,
  CallInterrupted,
  CallTimeout,
  CloseFailed,
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  type MethodsOf,
  openWorld,
  RankCrashed,
  ReentrantCollective,
  type World,
  WorldClosed,
  WorldStartFailed,
} from "../src/index.ts";
import { MISMATCH_KINDS, type Report, STRANGE_KINDS } from "./fault-program.ts";
import { untilIn } from "./until-in.ts";

type FaultProgram = typeof import("./fault-program.ts");
type FaultWorld = World<MethodsOf<FaultProgram>>;

/** What takes so long, even on a busy machine, waits for a deadline that it should not wait for. */
const SLACK_MS = 30_000;
/** Longer than anything that ends by itself. */
const FOR_EVER_MS = 100_000;

export interface Fault {
  readonly name: string;
  readonly sizes: readonly number[];
  /** `code`: where the ranks have the program of this matrix. Default: {@link PROGRAM}. */
  run(size: number, code?: RankCode): Promise<void>;
}

const PROGRAM: RankCode = { program: new URL("./fault-program.ts", import.meta.url) };

async function openFaultWorld(
  code: RankCode = PROGRAM,
  size: number,
  options: Partial<CommonWorldOptions<FaultProgram>> = {},
): Promise<FaultWorld> {
  return openWorld<FaultProgram>({
    size,
    heapBytesPerRank: 8 << 20,
    deadlineMs: FOR_EVER_MS,
    ...options,
    ...code,
  });
}

async function failureOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    assert(error instanceof Error);
    return error;
  }
  throw new assert.AssertionError({ message: "the call succeeded" });
}

function assertInstance<E extends Error>(
  error: unknown,
  errorClass: abstract new (...args: never[]) => E,
): asserts error is E {
  assert(
    error instanceof errorClass,
    `expected ${errorClass.name}, got ${error instanceof Error ? error.stack : error}`,
  );
}

async function reports(world: FaultWorld, ranks: readonly number[]): Promise<(Report & { rank: number })[]> {
  return Promise.all(
    ranks.map(async (rank) => {
      const report = await world.callRank(rank, "report", []);
      assert(report !== undefined, `rank ${rank} has not come out`);
      return { ...report, rank };
    }),
  );
}

function others(size: number, ...without: readonly number[]): number[] {
  return Array.from({ length: size }, (_, rank) => rank).filter((rank) => !without.includes(rank));
}

/** Every peer got GroupAborted, promptly, naming the rank; a new group over the peers works. */
async function peersSawTheCrash(world: FaultWorld, size: number, failed: number): Promise<void> {
  const peers = others(size, failed);
  for (const report of await reports(world, peers)) {
    assert.equal(report.error, "GroupAborted");
    assert.deepEqual(report.failedRanks, [failed]);
    assert.equal(report.cause, "RankCrashed");
    assert(report.elapsedMs < SLACK_MS, `took ${report.elapsedMs} ms`);
  }
  await newGroupWorks(world, peers);
}

async function newGroupWorks(world: FaultWorld, ranks: readonly number[]): Promise<void> {
  const name = `again over ${ranks.join(" ")}`;
  await world.createGroup(name, ranks);
  await Promise.all(ranks.map((rank) => world.callRank(rank, "work", [name, 5])));
}

function thrown(name: "throwBefore" | "throwDuring" | "throwAfter", text: string): Fault {
  return {
    name: `1. a rank throws (${name})`,
    sizes: name === "throwDuring" ? [2, 3, 4, 8] : [2, 4],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const error = await failureOf(world.call(name, [1]));
      assertInstance(error, RankCrashed);
      assert.equal(error.rank, 1);
      assert.match(error.message, new RegExp(text));
      await peersSawTheCrash(world, size, 1);
      await newGroupWorks(world, others(size));
    },
  };
}

function died(name: "reject" | "throwInTimer" | "exit", text: RegExp, title: string): Fault {
  return {
    name: title,
    sizes: [2, 4],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const error = await failureOf(world.call(name, [1]));
      assertInstance(error, RankCrashed);
      assert.equal(error.rank, 1);
      assert.match(error.message, text);
      await peersSawTheCrash(world, size, 1);
      const later = await failureOf(world.callRank(1, "name", []));
      assert(later instanceof RankCrashed);
      assert.equal(later.rank, 1);
    },
  };
}

export const FAULTS: readonly Fault[] = [
  thrown("throwBefore", "boom before"),
  thrown("throwDuring", "boom during"),
  thrown("throwAfter", "boom after"),
  died("reject", /nobody listens/, "1. an unhandled rejection"),
  died("throwInTimer", /thrown in a timer/, "1. an uncaught error in a timer"),
  {
    name: "1. every rank refuses the same argument: the typed error, and the group lives",
    sizes: [1, 4],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const error = await failureOf(world.call("refuse", []));
      assertInstance(error, ArgumentError);
      assert.equal(error.argument, "name");
      assert.equal(Reflect.get(error, "rank"), 0);
      await world.call("work", ["world", 5]);
    },
  },
  {
    name: "1. one rank refuses an argument that its peers accept",
    sizes: [3],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const error = await failureOf(world.call("refuseOne", [1]));
      assertInstance(error, ArgumentError);
      assert.equal(error.argument, "root");
      assert.equal(Reflect.get(error, "rank"), 1);
      await peersSawTheCrash(world, size, 1);
    },
  },
  {
    name: "2. ranks that never arrive: all are named, on every rank that waited",
    sizes: [2, 3, 4, 8],
    async run(size, code) {
      const missing = size >= 4 ? [1, 3] : [1];
      const waiting = others(size, ...missing);
      // Long enough for all that wait to come before the first gives up.
      const deadlineMs = 1_000;
      await using world = await openFaultWorld(code, size);
      await world.call("work", ["world", 1]);
      const error = await failureOf(world.call("late", [missing, FOR_EVER_MS, deadlineMs, "world"]));
      assertInstance(error, CollectiveTimeout);
      assert.deepEqual(error.missing, missing);
      assert.deepEqual([error.op, error.group, error.sequence, error.deadlineMs], ["barrier", "world", 3, deadlineMs]);
      for (const report of await reports(world, waiting)) {
        assert.equal(report.error, "CollectiveTimeout", report.message);
        assert.deepEqual([report.missing, report.op, report.sequence], [missing, "barrier", 3]);
        assert(report.elapsedMs > deadlineMs / 2 && report.elapsedMs < deadlineMs + SLACK_MS, `${report.elapsedMs} ms`);
      }
      for (const report of await reports(world, missing)) {
        assert.equal(report.error, "GroupAborted");
        assert.deepEqual([report.failedRanks, report.cause], [missing, "CollectiveTimeout"]);
      }
      await newGroupWorks(world, others(size));
    },
  },
  {
    name: `3. a mismatch, after 300 good collectives, of: ${MISMATCH_KINDS.join(", ")}`,
    sizes: [2, 3, 4, 8],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      for (const kind of MISMATCH_KINDS) {
        const name = `mismatch of ${kind}`;
        await world.createGroup(name, others(size));
        const error = await failureOf(world.call("mismatch", [kind, [1], 300, name]));
        assertInstance(error, CollectiveMismatch);
        assert.equal(error.sequence, 300);
        assert.equal(error.sides.length, 2);
        const odd = error.sides.find(({ ranks }) => ranks.length === 1 && ranks[0] === 1);
        assert(odd !== undefined, JSON.stringify(error.sides));
        const [first, second] = error.sides;
        assert.notEqual(first?.description, second?.description);
        if (kind !== "pair") assert.deepEqual(error.sides.flatMap(({ ranks }) => ranks).toSorted(), others(size));
        for (const report of await reports(world, others(size))) {
          assert.equal(report.error, "CollectiveMismatch", report.message);
          assert.deepEqual([report.sides, report.sequence], [error.sides, 300]);
        }
        const later = await failureOf(world.call("work", [name, 1]));
        assertInstance(later, GroupAborted);
        assertInstance(later.cause, CollectiveMismatch);
      }
      await newGroupWorks(world, others(size));
    },
  },
  {
    name: "4. a worker is terminated while parked",
    sizes: [3, 8],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const call = failureOf(world.call("spin", [1, FOR_EVER_MS]));
      await untilIn(world, "world", others(size, 1), "waiting");
      await world.terminateRank(0);
      const error = await call;
      assertInstance(error, RankCrashed);
      assert.equal(error.rank, 0);
      for (const report of await reports(world, others(size, 0, 1))) {
        assert.deepEqual([report.error, report.failedRanks], ["GroupAborted", [0]]);
        assert(report.elapsedMs < SLACK_MS, `${report.elapsedMs} ms`);
      }
      await newGroupWorks(world, others(size, 0));
    },
  },
  {
    name: "4. a worker is terminated while it computes",
    sizes: [3],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const call = failureOf(world.call("spin", [1, FOR_EVER_MS]));
      await untilIn(world, "world", others(size, 1), "waiting");
      await world.terminateRank(1);
      const error = await call;
      assertInstance(error, RankCrashed);
      assert.equal(error.rank, 1);
      await peersSawTheCrash(world, size, 1);
    },
  },
  died("exit", /process\.exit\(3\)/, "5. a silent exit"),
  {
    name: "6. use after an abort: at once, with the first cause",
    sizes: [3],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      await failureOf(world.call("throwBefore", [1]));
      const start = performance.now();
      const error = await failureOf(world.call("work", ["world", 1]));
      assert(performance.now() - start < SLACK_MS);
      assertInstance(error, GroupAborted);
      assert(error.cause instanceof RankCrashed);
      assert.equal(error.cause.rank, 1);
      assert.match(error.message, /boom before/);
    },
  },
  {
    name: "6. use after close",
    sizes: [2],
    async run(size, code) {
      const world = await openFaultWorld(code, size);
      await world.call("work", ["world", 2]);
      await world.close();
      await world.close();
      for (const use of [
        () => world.call("name", []),
        () => world.callRank(0, "name", []),
        () => world.createGroup("late", [0]),
        () => world.terminateRank(0),
      ]) {
        assert((await failureOf((async () => use())())) instanceof WorldClosed);
      }
    },
  },
  {
    name: "6. close while calls are in flight",
    sizes: [2, 4],
    async run(size, code) {
      const world = await openFaultWorld(code, size);
      const call = failureOf(world.call("workForever", ["world"]));
      const idle = failureOf(world.call("sleep", [FOR_EVER_MS]));
      await new Promise((resolve) => setTimeout(resolve, 50));
      const start = performance.now();
      await world.close();
      assert(performance.now() - start < SLACK_MS, `closing took ${performance.now() - start} ms`);
      assert((await call) instanceof WorldClosed);
      assert((await idle) instanceof WorldClosed);
    },
  },
  {
    name: "7. a re-entrant call",
    sizes: [2],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const error = await failureOf(world.call("reenter", []));
      assertInstance(error, ReentrantCollective);
      assert.deepEqual([error.op, error.running], ["barrier", "readPeers"]);
    },
  },
  {
    name: "7. two callers: concurrent calls do not mix",
    sizes: [3],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      await Promise.all(Array.from({ length: 8 }, () => world.call("work", ["world", 10])));
    },
  },
  {
    name: "8. two groups interleaved",
    sizes: [4],
    async run(size, code) {
      await using world = await openFaultWorld(code, size, {
        groups: {
          pairs: [
            [0, 1],
            [2, 3],
          ],
          cross: [
            [2, 0],
            [3, 1],
          ],
        },
      });
      await world.call("interleaved", [["world", "pairs", "cross", "pairs"], 20]);
    },
  },
  {
    name: "8. two groups in opposite orders: a timeout, not a hang",
    sizes: [2],
    async run(size, code) {
      await using world = await openFaultWorld(code, size, { groups: { a: [[0, 1]], b: [[0, 1]] } });
      const error = await failureOf(world.call("crossed", [["a", "b"], 300]));
      assertInstance(error, CollectiveTimeout);
      for (const report of await reports(world, others(size))) {
        assert(["CollectiveTimeout", "GroupAborted"].includes(report.error), report.error);
        assert(report.elapsedMs < 300 + SLACK_MS);
      }
    },
  },
  {
    name: "9. a late arrival from an aborted generation does not touch the new one",
    sizes: [3],
    async run(size, code) {
      await using world = await openFaultWorld(code, size, { groups: { team: [[0, 1, 2]] } });
      await world.call("keep", ["team"]);
      const late = failureOf(world.call("late", [[1], FOR_EVER_MS, 200, "team"]));
      assert((await late) instanceof CollectiveTimeout);
      await world.createGroup("team", [0, 2]);
      const working = Promise.all([0, 2].map((rank) => world.callRank(rank, "work", ["team", 100])));
      const old = await failureOf(world.callRank(1, "useKept", ["team"]));
      assertInstance(old, GroupAborted);
      await working;
      await world.createGroup("team2", [0, 1, 2]);
      await world.call("work", ["team2", 5]);
      // The kept handles of the ranks that moved on are of the old generation too.
      assert((await failureOf(world.callRank(0, "useKept", ["team"]))) instanceof GroupAborted);
    },
  },
  {
    name: "10. an abort signal in mid-collective frees every rank",
    sizes: [2, 8],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const controller = new AbortController();
      const call = failureOf(
        world.call("late", [[1], FOR_EVER_MS, FOR_EVER_MS, "world"], { signal: controller.signal }),
      );
      await untilIn(world, "world", others(size, 1), "waiting");
      controller.abort(new Error("the user left"));
      const error = await call;
      assertInstance(error, CallInterrupted);
      assert.match(error.message, /the user left/);
      for (const report of await reports(world, others(size))) {
        assert.deepEqual([report.error, report.cause], ["GroupAborted", "CallInterrupted"]);
        assert(report.elapsedMs < SLACK_MS);
      }
      await newGroupWorks(world, others(size));
      const before = await failureOf(world.call("name", [], { signal: controller.signal }));
      assert(before instanceof CallInterrupted);
    },
  },
  {
    name: "10. a call that misses its deadline names the ranks and frees them",
    sizes: [4],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const error = await failureOf(
        world.call("late", [[1], FOR_EVER_MS, FOR_EVER_MS, "world"], { deadlineMs: 1_000 }),
      );
      assertInstance(error, CallTimeout);
      assert.deepEqual([error.ranks, error.deadlineMs, error.method], [[0, 1, 2, 3], 1_000, "late"]);
      for (const report of await reports(world, others(size))) {
        assert.deepEqual([report.error, report.cause], ["GroupAborted", "CallTimeout"]);
      }
      await newGroupWorks(world, others(size));
    },
  },
  {
    name: "11. progress words wrap around at 2^31",
    sizes: [1, 3],
    async run(size, code) {
      await using world = await openFaultWorld(code, size, { initialProgress: 2 ** 31 - 20 });
      await world.call("work", ["world", 60]);
      if (size === 1) return;
      const error = await failureOf(world.call("late", [[0], FOR_EVER_MS, 100, "world"]));
      assertInstance(error, CollectiveTimeout);
    },
  },
  {
    name: "13. more ranks than cores",
    sizes: [8, 16],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      await world.call("work", ["world", 20]);
    },
  },
  {
    name: "14. an abort races completion: every rank comes out with success or a typed error",
    sizes: [2, 4],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      // An abort may come before the first race has begun on any rank: then this is what they report.
      await world.call("work", ["world", 1]);
      for (let attempt = 0; attempt < 12; attempt++) {
        const name = `race ${attempt % 3}`;
        await world.createGroup(name, others(size));
        const controller = new AbortController();
        const call = world.call("work", [name, 30], { signal: controller.signal }).then(
          () => undefined,
          (error: unknown) => error,
        );
        await new Promise((resolve) => setTimeout(resolve, (attempt * 7) % 5));
        controller.abort();
        const error = await call;
        assert(error === undefined || error instanceof CallInterrupted, String(error));
        // A rank may have finished its part before the abort reached it.
        for (const report of await reports(world, others(size))) {
          assert(["none", "GroupAborted"].includes(report.error), `${report.error}: ${report.message}`);
        }
        // It may live: the name is taken again.
        await world.destroyGroup(name);
      }
    },
  },
  {
    name: "closing awaits the onClose callbacks, the last registered first",
    sizes: [3],
    async run(size, code) {
      const world = await openFaultWorld(code, size);
      const flags = Tensor.zeros(world.heap, "i32", [size]);
      await world.call("onCloseWrite", [flags.byteOffset, 100]);
      // In a job, only some ranks share the host's memory.
      const [here = []] = world.processes;
      await world.close();
      assert.deepEqual(
        here.map((rank) => flags.i32[rank]),
        here.map(() => 11),
      );
    },
  },
  {
    name: "a failing onClose callback is reported after everything is gone",
    sizes: [2],
    async run(size, code) {
      const world = await openFaultWorld(code, size);
      await world.call("onCloseThrow", [1]);
      const error = await failureOf(world.close());
      assertInstance(error, CloseFailed);
      assert.deepEqual(error.ranks, [1]);
      assert.match(error.message, /does not let go/);
    },
  },
  {
    name: "a program that cannot be imported",
    sizes: [3],
    async run(size) {
      const program = new URL("./no-such-program.ts", import.meta.url);
      const error = await failureOf(openFaultWorld({ program }, size));
      assertInstance(error, WorldStartFailed);
      assert.match(error.message, /no-such-program/);
    },
  },
  {
    name: "arguments that cannot be copied",
    sizes: [2],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const looked = (): never => {
        throw new Error("somebody looked");
      };
      for (const argument of [
        () => undefined,
        Symbol("s"),
        Object.defineProperty({}, "x", { get: looked, enumerable: true }),
      ]) {
        const error = await failureOf(world.call("echo", [argument]));
        assertInstance(error, ArgumentError);
        assert.equal(error.argument, "args");
      }
      await world.call("work", ["world", 2]);
    },
  },
  {
    name: `thrown or returned while peers wait: ${STRANGE_KINDS.join(", ")}`,
    sizes: [1, 3],
    async run(size, code) {
      await using world = await openFaultWorld(code, size);
      const who = size - 1;
      for (const kind of STRANGE_KINDS) {
        for (const how of ["throw", "return"] as const) {
          // These can be copied.
          if (
            how === "return" &&
            ["object without a prototype", "error whose getters throw", "cyclic", "huge"].includes(kind)
          )
            continue;
          const error = await failureOf(world.call("strange", [how, kind, who]));
          assertInstance(error, RankCrashed);
          assert.equal(error.rank, who);
          assert(error.message.length < 40_000);
          // Awaiting a proxy looks at it already.
          const isCopied = how === "return" && !kind.startsWith("proxy");
          assert.match(error.message, isCopied ? /its answer cannot be copied to the host/ : /strange threw /);
          for (const report of await reports(world, others(size, who))) {
            assert.deepEqual(
              [report.error, report.failedRanks, report.cause],
              ["GroupAborted", [who], "RankCrashed"],
              `${how} ${kind}`,
            );
          }
          await world.renewGroups();
          await world.call("work", ["world", 1]);
        }
      }
    },
  },
];
