// Calls that overlap, are cancelled, or are aborted and gone on from, as functions that run in Bun and in Deno alike.

import assert from "node:assert/strict";
import { ArgumentError, Tensor } from "@lockstep/tensor";
import {
  CallInterrupted,
  CallTimeout,
  CollectiveTimeout,
  GroupAborted,
  GroupDestroyed,
  type MethodsOf,
  openWorld,
  RankCrashed,
  type World,
  type CommonWorldOptions,
} from "../src/index.ts";
import { ARRIVED, BEGUN, GATE } from "./call-program.ts";
import type { Fault } from "./fault-matrix.ts";

type CallProgram = typeof import("./call-program.ts");
type CallWorld = World<MethodsOf<CallProgram>>;

/** Longer than anything may take on a busy machine. */
const GENEROUS_MS = 60_000;

type CallWorldOptions = Partial<CommonWorldOptions<CallProgram>> & { readonly program?: URL };

function openCallWorld(size: number, options: CallWorldOptions = {}): Promise<CallWorld> {
  return openWorld<CallProgram>({
    size,
    program: new URL("./call-program.ts", import.meta.url),
    heapBytesPerRank: 1 << 20,
    deadlineMs: GENEROUS_MS,
    ...options,
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

const later = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Words that ranks and host signal each other with, in the host's heap. */
class Signals {
  readonly tensor: Tensor;

  constructor(world: CallWorld) {
    this.tensor = Tensor.zeros(world.heap, "i32", [4]);
  }

  get begun(): number {
    return Atomics.load(this.tensor.i32, BEGUN);
  }

  async arrived(count: number): Promise<void> {
    while (Atomics.load(this.tensor.i32, ARRIVED) < count) await later(1);
  }

  open(): void {
    Atomics.store(this.tensor.i32, GATE, 1);
    Atomics.notify(this.tensor.i32, GATE);
  }
}

const everyone = (size: number): number[] => Array.from({ length: size }, (_, rank) => rank);

export const CALL_CASES: readonly Fault[] = [
  {
    name: "calls: 20 at once run one after another, in order",
    sizes: [1, 3],
    async run(size) {
      await using world = await openCallWorld(size);
      const calls = Array.from({ length: 20 }, () => world.call("slowStep", []));
      for (const [at, results] of (await Promise.all(calls)).entries()) {
        assert.deepEqual(
          results,
          everyone(size).map(() => ({ steps: at + 1, mostInside: 1 })),
        );
      }
    },
  },
  {
    name: "calls: those on different ranks run side by side, and those on one in order with the ones on all",
    sizes: [3],
    async run(size) {
      await using world = await openCallWorld(size);
      // Each of these waits for the others.
      await Promise.all(everyone(size).map((rank) => world.callRank(rank, "meet", [])));
      const [before, , after] = await Promise.all([
        world.callRank(1, "steps", []),
        world.call("step", []),
        world.callRank(1, "steps", []),
        world.call("step", []),
      ]);
      assert.deepEqual([before, after], [0, 1]);
    },
  },
  {
    name: "calls: a program that says so gets them while others are under way",
    sizes: [2],
    async run(size) {
      await using world = await openCallWorld(size, {
        program: new URL("./concurrent-call-program.ts", import.meta.url),
      });
      const signals = new Signals(world);
      const held = world.call("hold", [signals.tensor.descriptor]);
      await signals.arrived(size);
      await world.call("begin", [signals.tensor.descriptor]);
      assert.equal(signals.begun, size);
      signals.open();
      await held;
    },
  },
  {
    name: "calls: a signal or a deadline cancels one that has not begun, without harm",
    sizes: [1, 3],
    async run(size) {
      for (const program of ["./call-program.ts", "./concurrent-call-program.ts"]) {
        await using world = await openCallWorld(size, { program: new URL(program, import.meta.url) });
        const signals = new Signals(world);
        const shared = signals.tensor.descriptor;
        // Behind a call that blocks its ranks, so that nothing begins before the gate opens: queued on the host, or
        // posted.
        const blocking = world.call("block", [shared]);
        await signals.arrived(size);
        const controller = new AbortController();
        const cancelled = failureOf(world.call("begin", [shared], { signal: controller.signal }));
        controller.abort(new Error("no need"));
        assert((await cancelled) instanceof CallInterrupted);
        const fired = await failureOf(world.call("begin", [shared], { signal: controller.signal }));
        assert(fired instanceof CallInterrupted);
        assert.match(fired.message, /no need/);
        const group = failureOf(world.createGroup("late", everyone(size), { signal: controller.signal }));
        assert((await group) instanceof CallInterrupted);
        if (program.includes("concurrent")) {
          const late = await failureOf(world.call("begin", [shared], { deadlineMs: 30 }));
          assert(late instanceof CallTimeout && !late.started, String(late));
        }
        signals.open();
        await blocking;
        await world.call("meet", []);
        assert.equal(signals.begun, 0);
        assert.equal((await world.call("step", []))[0], 1);
      }
    },
  },
  {
    name: "calls: one behind ranks that do not come out of an earlier one says so, and the world can be gone on with",
    sizes: [2],
    async run(size) {
      await using world = await openCallWorld(size);
      await world.call("step", []);
      const signals = new Signals(world);
      const shared = signals.tensor.descriptor;
      const controller = new AbortController();
      const stuck = failureOf(world.call("block", [shared], { signal: controller.signal }));
      // The clock of a call starts when the one before has been given up.
      const behind = failureOf(world.call("begin", [shared], { deadlineMs: 100 }));
      await signals.arrived(size);
      controller.abort();
      assert((await stuck) instanceof CallInterrupted);
      const waited = await behind;
      assert(waited instanceof CallTimeout && !waited.started, String(waited));
      assert.deepEqual(waited.ranks, everyone(size));
      assert.match(waited.message, /begin did not start within 100 ms: ranks 0, 1 had not come out of an earlier call/);
      const renewing = world.renewGroups();
      signals.open();
      assert.deepEqual(await renewing, [{ name: "world", ranks: everyone(size) }]);
      assert.deepEqual(await world.call("step", []), [2, 2]);
      assert.equal(signals.begun, 0);
    },
  },
  {
    name: "renewGroups: after a signal in mid-collective the same ranks go on with all they had",
    sizes: [1, 2, 3, 4, 8],
    async run(size) {
      await using world = await openCallWorld(size, {
        groups: { halves: size < 2 ? [[0]] : [everyone(size).slice(0, 1), everyone(size).slice(1).reverse()] },
      });
      for (let round = 0; round < 3; round++) {
        const before = (await world.call("step", []))[0] ?? 0;
        const signals = new Signals(world);
        const controller = new AbortController();
        const call = failureOf(world.call("stall", [signals.tensor.descriptor], { signal: controller.signal }));
        await signals.arrived(size);
        controller.abort();
        assert((await call) instanceof CallInterrupted);
        const renewed = await world.renewGroups();
        assert(renewed.some(({ name, ranks }) => name === "world" && ranks.length === size));
        assert(renewed.some(({ name, ranks }) => name === "halves" && ranks.includes(size - 1)));
        for (const state of await world.call("state", [])) {
          const { steps, cache, keptAborted, aborted } = state;
          assert.deepEqual({ steps, keptAborted, aborted }, { steps: before, keptAborted: true, aborted: false });
          assert.deepEqual(
            cache,
            Array.from({ length: before }, () => (size * (size + 1)) / 2),
          );
        }
        assert.deepEqual(
          await world.call("step", []),
          everyone(size).map(() => before + 1),
        );
        const halves = await world.call("group", ["halves"]);
        assert.deepEqual(halves.at(-1), size < 2 ? [0] : everyone(size).slice(1).reverse());
        assert.deepEqual(await world.renewGroups(), []);
        const old = await failureOf(world.call("useKept", []));
        assert(old instanceof GroupAborted, String(old));
        signals.tensor.free();
      }
    },
  },
  {
    name: "renewGroups: after a throw and a timeout, and not for the groups of dead ranks",
    sizes: [3],
    async run(size) {
      await using world = await openCallWorld(size, { groups: { pair: [[0, 1]] } });
      assert((await failureOf(world.call("throwOn", [1]))) instanceof RankCrashed);
      const renewed = await world.renewGroups();
      assert(renewed.some(({ name, ranks }) => name === "world" && ranks.length === size));
      assert((await failureOf(world.call("meetWithout", [1, 50]))) instanceof CollectiveTimeout);
      assert((await world.renewGroups()).some(({ name }) => name === "world"));
      assert.deepEqual(await world.call("step", []), [1, 1, 1]);
      await world.terminateRank(2);
      assert.deepEqual(await world.renewGroups(), []);
      await world.createGroup("world", [0, 1]);
      assert.equal(await Promise.all([0, 1].map((rank) => world.callRank(rank, "step", []))).then(([n]) => n), 2);
    },
  },
  {
    name: "groups: made, given up and destroyed, thousands of times, they leave the memory as it was",
    sizes: [2],
    async run(size) {
      await using world = await openCallWorld(size);
      // The part of the memory that groups take theirs from holds some dozens of them.
      for (let round = 0; round < 10_000; round++) {
        await world.createGroup(`group ${round}`, [1, 0]);
        if (round % 2_000 === 0) assert.deepEqual((await world.call("group", [`group ${round}`]))[0], [1, 0]);
        await world.destroyGroup(`group ${round}`);
      }
      for (let round = 0; round < 500; round++) {
        const controller = new AbortController();
        const given = world.createGroup("given up", [0, 1], { signal: controller.signal }).then(
          () => world.destroyGroup("given up"),
          (error: unknown) => assert(error instanceof CallInterrupted, String(error)),
        );
        if (round % 2 === 1) await Promise.resolve();
        controller.abort();
        await given;
        await world.call("steps", []);
      }
      await world.createGroup("kept", [0, 1]);
      await world.destroyGroup("kept");
      const gone = await failureOf(world.call("group", ["kept"]));
      assert(gone instanceof ArgumentError, String(gone));
      for (const name of ["world", "kept"])
        assert((await failureOf(world.destroyGroup(name))) instanceof ArgumentError);
      assert.deepEqual(await world.call("step", []), [1, 1]);
    },
  },
  {
    name: "groups: collectives of a destroyed one say so",
    sizes: [2],
    async run(size) {
      await using world = await openCallWorld(size, {
        program: new URL("./concurrent-call-program.ts", import.meta.url),
      });
      await world.createGroup("pair", [0, 1]);
      const waiting = failureOf(world.callRank(0, "group", ["pair"]));
      await later(20);
      await world.destroyGroup("pair");
      const error = await waiting;
      assert(error instanceof GroupAborted && error.cause instanceof GroupDestroyed, String(error));
    },
  },
];
