import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, ResourceClosed, Tensor } from "@lockstep/tensor";
import { untilIn } from "../../test/until-in.ts";
import { CallInterrupted, CallTimeout, GroupAborted, GroupDestroyed } from "../errors/errors.ts";
import type { MethodsOf } from "../rank/rank-context.ts";
import { openWorld, type World } from "./world.ts";

setDefaultTimeout(120_000);

type Program = typeof import("../../test/closed-group-program.ts");
type Ranks = World<MethodsOf<Program>>;

const open = (size: number): Promise<Ranks> =>
  openWorld<Program>({
    size,
    program: new URL("../../test/closed-group-program.ts", import.meta.url),
    heapBytesPerRank: 1 << 20,
  });
const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "none",
    (error: unknown) => error,
  );
const names = (world: Ranks): string[] => world.flightRecord().groups.map(({ group }) => group);

/** Gives a call up while rank 0 waits in a collective of a group for the other. */
async function abortInCollective(name: string): Promise<void> {
  const controller = new AbortController();
  const call = failureOf(world.call("stall", [name], { signal: controller.signal }));
  await untilIn(world, name, [0], "waiting");
  controller.abort();
  expect(await call).toBeInstanceOf(CallInterrupted);
}

let world: Ranks;
beforeAll(async () => {
  world = await open(2);
});
afterAll(() => world.close());

test("every collective of a closed group throws ResourceClosed, blocking or not", async () => {
  {
    await using group = await world.createGroup("one", [1]);
    expect([group.name, group.ranks]).toEqual(["one", [1]]);
    await world.callRank(1, "keep", ["one"]);
    const outcomes = await world.callRank(1, "use", []);
    expect(outcomes.map(([, error]) => error)).toEqual(outcomes.map(() => "none"));
    expect(await world.callRank(1, "isAborted", [])).toBe(false);
  }
  const outcomes = await world.callRank(1, "use", []);
  expect(outcomes).toHaveLength(20);
  expect(outcomes).toEqual(outcomes.map(([name]) => [name, "ResourceClosed"]));
  expect(await world.callRank(1, "isAborted", [])).toBe(true);
  expect(await failureOf(world.callRank(1, "barrier", ["one"]))).toBeInstanceOf(ArgumentError);
  const closed = await failureOf(world.callRank(1, "barrierOfKept", []));
  expect(closed).toBeInstanceOf(ResourceClosed);
  expect(closed).toHaveProperty("message", expect.stringContaining('group.barrier: group "one" was closed'));
  expect(await world.call("work", [])).toEqual([2, 2]);
});

test("closing is idempotent, at once and one after another, and leaves other groups of the name alone", async () => {
  const group = await world.createGroup("again", [0, 1]);
  await Promise.all([group.close(), group.close(), group[Symbol.asyncDispose]()]);
  await using newer = await world.createGroup("again", [1, 0]);
  await group.close();
  await world.call("barrier", ["again"]);
  await world.destroyGroup("again");
  await newer.close();
  expect(names(world)).toEqual(["world"]);
});

test("a group that was aborted before it is closed throws ResourceClosed too", async () => {
  const group = await world.createGroup("pair", [0, 1]);
  await world.call("keep", ["pair"]);
  await abortInCollective("pair");
  await group.close();
  await world.renewGroups();
  expect(await failureOf(world.call("barrierOfKept", []))).toBeInstanceOf(ResourceClosed);
});

test("who waits in a collective of a group that is closed gets GroupAborted", async () => {
  const group = await world.createGroup("pair", [0, 1]);
  const waiting = failureOf(world.call("stall", ["pair"]));
  await untilIn(world, "pair", [0], "waiting");
  await group.close();
  const error = await waiting;
  expect(error).toBeInstanceOf(GroupAborted);
  expect(error).toHaveProperty("cause", expect.any(GroupDestroyed));
});

test("a group is closed through its owner when renewGroups has put another in its place", async () => {
  {
    await using _group = await world.createGroup("pair", [0, 1]);
    for (let round = 0; round < 40; round++) {
      await world.call("keep", ["pair"]);
      await abortInCollective("pair");
      expect((await world.renewGroups()).map(({ name }) => name).toSorted()).toContain("pair");
      // What a newer one has replaced stays aborted.
      expect(await failureOf(world.call("barrierOfKept", []))).toBeInstanceOf(GroupAborted);
      await world.call("barrier", ["pair"]);
    }
  }
  expect(names(world)).toEqual(["world"]);
});

test("a group that is closed before its ranks are asked to join it never comes to be", async () => {
  const gate = Tensor.zeros(world.heap, "i32", [1]);
  const busy = world.call("block", [gate.descriptor]);
  // More than the control memory holds at a time.
  for (let round = 0; round < 100; round++) {
    const made = failureOf(world.createGroup("late", [0, 1]));
    await world.destroyGroup("late");
    expect(await made).toBeInstanceOf(CallInterrupted);
  }
  gate.i32[0] = 1;
  await busy;
  expect(await failureOf(world.call("barrier", ["late"]))).toBeInstanceOf(ArgumentError);
  expect(names(world)).toEqual(["world"]);
  gate.free();
});

test("a rank that comes out after the deadline of closing gives the memory back then", async () => {
  const gate = Tensor.zeros(world.heap, "i32", [1]);
  const group = await world.createGroup("pair", [0, 1]);
  const busy = world.call("block", [gate.descriptor]);
  const late = await failureOf(group.close({ deadlineMs: 50 }));
  expect(late).toBeInstanceOf(CallTimeout);
  expect(names(world)).toEqual(["world", "pair"]);
  gate.i32[0] = 1;
  await failureOf(busy);
  while (names(world).includes("pair")) await Bun.sleep(1);
  await group.close();
  await world.renewGroups();
  expect(await world.call("work", [])).toEqual([2, 2]);
  gate.free();
});

test("the world gives back the groups that it still has, and closing them then is nothing", async () => {
  const other = await open(2);
  const [before, during] = [await other.createGroup("before", [0]), await other.createGroup("during", [1])];
  const gate = Tensor.zeros(other.heap, "i32", [1]);
  const busy = failureOf(other.call("block", [gate.descriptor]));
  const closing = during.close();
  gate.i32[0] = 1;
  await Promise.all([other.close(), closing, before.close()]);
  await Promise.all([before.close(), during.close(), other.close(), busy]);
});
