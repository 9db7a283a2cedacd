import { afterAll, beforeAll, describe, expect, expectTypeOf, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { CallInterrupted, WorldStartFailed } from "../errors/errors.ts";
import type { MethodsOf } from "../rank/rank-context.ts";
import { controlBytes } from "../site/memory-layout.ts";
import { placementOf } from "./placement.ts";
import { openWorld, type World } from "./world.ts";
import type { CommonWorldOptions, OpeningWorld, WorldOptions } from "./world-options.ts";
import { outcomeOf, reasonOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

type Program = typeof import("../../test/world-program.ts");
const program = new URL("../../test/world-program.ts", import.meta.url);
const options: WorldOptions<Program> = { size: 2, program, options: { scale: 1 }, heapBytesPerRank: 1 << 20 };

describe("a world of 3", () => {
  let world: World<MethodsOf<Program>>;
  beforeAll(async () => {
    world = await openWorld<Program>({
      size: 3,
      program,
      options: { scale: 10, gather: true },
      heapBytesPerRank: 1 << 20,
      groups: { pair: [[2, 0]], all: [[1, 0, 2]] },
    });
  });
  afterAll(() => world.close());

  test("calls every rank; results in rank order; typed from the program", async () => {
    const ranks = await world.call("rank", []);
    expectTypeOf(ranks).toEqualTypeOf<number[]>();
    expect(ranks).toEqual([0, 10, 20]);
    const later = await world.call("later", ["x"]);
    expectTypeOf(later).toEqualTypeOf<{ rank: number; value: string }[]>();
    expect(later.map(({ rank }) => rank)).toEqual([0, 1, 2]);
  });

  test("calls one rank", async () => {
    const result = await world.callRank(2, "rank", []);
    expectTypeOf(result).toEqualTypeOf<number>();
    expect(result).toBe(20);
  });

  test("collectives work in setup", async () => {
    expect(await world.call("everyone", [])).toEqual([
      [0, 1, 2],
      [0, 1, 2],
      [0, 1, 2],
    ]);
  });

  test("groups keep their order, and only members find them", async () => {
    expect(await world.callRank(0, "groups", [["world", "pair", "all"]])).toEqual([
      { name: "world", rank: 0, size: 3, ranks: [0, 1, 2] },
      { name: "pair", rank: 1, size: 2, ranks: [2, 0] },
      { name: "all", rank: 1, size: 3, ranks: [1, 0, 2] },
    ]);
    expect(await outcomeOf(world.callRank(1, "groups", [["pair"]]))).toThrow('a group of rank 1: "world", "all"');
  });

  test("host and ranks read each other's tensors in place", async () => {
    const tensor = Tensor.from(world.heap, "f32", [2], [1.5, -2]);
    expect(await world.call("read", [tensor.descriptor])).toEqual([
      [1.5, -2],
      [1.5, -2],
      [1.5, -2],
    ]);
    tensor.free();
    const published: TensorDescriptor = await world.callRank(1, "publish", [7]);
    expect([...Tensor.fromDescriptor(published, world.heap).toNumbers()]).toEqual([7, 7, 7]);
    expect(await world.callRank(0, "read", [published])).toEqual([7, 7, 7]);
  });

  test("host and ranks know who shares a memory", async () => {
    expect(world.processes).toEqual([[0, 1, 2]]);
    expect(placementOf(3)).toEqual({ processes: [[0, 1, 2]], machines: 1, controlBytes: controlBytes(3) });
    const whole = { index: 0, count: 1, ranks: [0, 1, 2] };
    expect(await world.call("hostProcess", [])).toEqual([whole, whole, whole]);
    expect(await world.call("sharesMemory", [])).toEqual([true, true, true]);
  });

  test("every heap has a range of its own", async () => {
    const ranges = [
      { start: world.heap.start, bytes: world.heap.totalBytes },
      ...(await world.call("heapRange", [])),
    ].toSorted((a, b) => a.start - b.start);
    for (const [index, range] of ranges.entries()) {
      const next = ranges[index + 1];
      if (next !== undefined) expect(range.start + range.bytes).toBeLessThanOrEqual(next.start);
    }
    expect(world.heap.buffer.byteLength).toBeGreaterThanOrEqual(4 << 20);
  });

  test("counts what a group does", async () => {
    const [before] = await world.call("counters", []);
    await world.call("sum", [[1, 2, 3, 4]]);
    const [after] = await world.call("counters", []);
    expect((after?.ops ?? 0) - (before?.ops ?? 0)).toBe(1);
    expect((after?.bytesReceived ?? 0) - (before?.bytesReceived ?? 0)).toBe(2 * 16);
  });

  test("an unknown method or rank is refused", async () => {
    const untyped: World = world as unknown as World;
    expect(await outcomeOf(untyped.call("nonsense", []))).toThrow(/a method of the program: rank, later/);
    expect(await reasonOf(untyped.call("constant", []))).toBeInstanceOf(ArgumentError);
    expect(await reasonOf(world.callRank(3, "rank", []))).toBeInstanceOf(ArgumentError);
    expect(await reasonOf(world.call("rank", [], { deadlineMs: 0 }))).toBeInstanceOf(ArgumentError);
    expect(await outcomeOf(world.createGroup("pair", [0, 1]))).toThrow(/in use by ranks 2, 0/);
    expect(await reasonOf(world.createGroup("odd", [0, 0]))).toBeInstanceOf(ArgumentError);
    expect(await world.call("rank", [])).toEqual([0, 10, 20]);
  });
});

describe("options", () => {
  test.each<[string, Partial<CommonWorldOptions<Program>>]>([
    ["size", { size: 0 }],
    ["size", { size: 2.5 }],
    ["size", { size: 256 }],
    ["deadlineMs", { deadlineMs: -1 }],
    ["startDeadlineMs", { startDeadlineMs: Number.NaN }],
    ["closeDeadlineMs", { closeDeadlineMs: 2 ** 40 }],
    ["heapBytesPerRank", { heapBytesPerRank: 10 }],
    ["heapBytesPerRank", { heapBytesPerRank: 2 ** 31 }],
    ["heapBytesHost", { heapBytesHost: 1.5 }],
    ["stagingBytes", { stagingBytes: 100 }],
    ["stagedLimit", { stagedLimit: 65_537 }],
    ["groups", { groups: { world: [[0, 1]] } }],
    ["groups.dcp", { groups: { dcp: [[0, 2]] } }],
    ["groups.dcp", { groups: { dcp: [[0, 1], [1]] } }],
    ["groups.dcp", { groups: { dcp: [[]] } }],
  ])("a bad %s is refused before anything starts: %j", async (argument, change) => {
    const error: unknown = await openWorld<Program>({ ...options, ...change }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error).toHaveProperty("argument", argument);
  });

  test("a function makes the ranks' options once the world's memory is there", async () => {
    const made: OpeningWorld[] = [];
    await using world = await openWorld<Program>({
      size: 2,
      program,
      options: (opening) => {
        made.push(opening);
        const shown = Tensor.from(opening.heap, "f32", [2], [3, 4]);
        return { scale: opening.processes.length, shown: shown.descriptor };
      },
    });
    expect(made).toEqual([{ size: 2, heap: world.heap, processes: [[0, 1]] }]);
    expect(await world.call("rank", [])).toEqual([0, 1]);
    expect(await world.call("shown", [])).toEqual([
      [3, 4],
      [3, 4],
    ]);
  });

  test("a function whose options cannot be copied, or that throws, opens nothing", async () => {
    const open = (make: () => { scale: number }): Promise<unknown> =>
      openWorld<Program>({ size: 2, program, options: make }).catch((thrown: unknown) => thrown);
    const uncopied = { scale: 1, callback: () => 1 };
    expect(await open(() => uncopied)).toMatchObject({ _tag: "ArgumentError", argument: "options" });
    const failure = new RangeError("no such scale");
    expect(
      await open(() => {
        throw failure;
      }),
    ).toBe(failure);
  });

  test("the ranks' code is given in exactly one way", async () => {
    const changes: readonly [argument: string, change: object][] = [
      ["program", { program: "" }],
      ["program", { program: "./rank.ts" }],
      ["program", { program: "rank.ts" }],
      ["program, worker", { program: undefined }],
      ["program, worker", { program: undefined, worker: undefined }],
      ["worker", { program: undefined, worker: "./rank.ts" }],
      ["program", { program: { href: 5 } }],
      ["program, worker", { worker: "./rank.ts" }],
      ["worker", { program: undefined, worker: 5 }],
      ["worker", { program: undefined, worker: {} }],
    ];
    for (const [argument, change] of changes) {
      const opening = openWorld<Program>({ ...options, ...change } as WorldOptions<Program>);
      const error: unknown = await opening.catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ArgumentError);
      expect(error).toHaveProperty("argument", argument);
    }
  });

  test("sixteen ranks share 4 GiB without being told how", async () => {
    await using world = await openWorld<Program>({ size: 16, program, options: { scale: 1 } });
    const ranges = await world.call("heapRange", []);
    expect(ranges.every(({ bytes }) => bytes > 200 * 2 ** 20)).toBe(true);
  });

  test("a program without setup fails the start", async () => {
    const bad = new URL("../layout/chunk-rule.ts", import.meta.url);
    const error: unknown = await openWorld({ size: 2, program: bad }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(WorldStartFailed);
    expect(error).toHaveProperty("message", expect.stringContaining("exports a function `setup`"));
  });
});

test("100 worlds open, work and close, one after another", async () => {
  for (let cycle = 0; cycle < 100; cycle++) {
    await using world = await openWorld<Program>(options);
    expect(await world.call("sum", [[cycle, 1]])).toEqual([
      [2 * cycle, 2],
      [2 * cycle, 2],
    ]);
  }
});

test("several worlds at a time", async () => {
  const worlds = await Promise.all(Array.from({ length: 4 }, () => openWorld<Program>(options)));
  const results = await Promise.all(worlds.map((world, index) => world.call("sum", [[index]])));
  expect(results).toEqual([0, 1, 2, 3].map((index) => [[2 * index], [2 * index]]));
  await Promise.all(worlds.map((world) => world.close()));
});

test("a signal gives the opening up", async () => {
  for (const delay of [0, 1, 30]) {
    const error: unknown = await openWorld<Program>({ ...options, size: 4, signal: AbortSignal.timeout(delay) }).then(
      (world) => world.close(),
      (thrown: unknown) => thrown,
    );
    // A machine fast enough to open within the delay closes the world again.
    if (error !== undefined) expect(error).toBeInstanceOf(CallInterrupted);
  }
  const fired = openWorld<Program>({ ...options, signal: AbortSignal.abort("no need") });
  expect(await outcomeOf(fired)).toThrow(/no need/);
});
