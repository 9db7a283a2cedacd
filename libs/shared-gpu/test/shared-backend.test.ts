import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { BackendUnavailable } from "@lockstep/kernels";
import { fromPlainError, type MethodsOf, openWorld, toPlainError, type World } from "@lockstep/dist-groups";
import { ArgumentError, SharedHeap } from "@lockstep/tensor";
import { ranksApart } from "../../dist-groups/test/apart/ranks-apart.ts";
import { openSharedBackend } from "../src/shared-backend.ts";
import type * as program from "./shared-backend-program.ts";
import { outcomeOf } from "../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

function open(size: number, options: Parameters<typeof program.setup>[1] = {}, deadlineMs = 60_000) {
  return openWorld<typeof program>({
    size,
    program: new URL("./shared-backend-program.ts", import.meta.url),
    options,
    deadlineMs,
  });
}

type SharedWorld = World<MethodsOf<typeof program>>;

describe.each([
  [1, "that all reach"],
  [2, "that all reach"],
  [3, "that all reach"],
  [8, "that all reach"],
  [3, "of their own"],
])("%d ranks share a device, with operands in memory %s", (size, memory) => {
  const options = { isFar: memory === "of their own" };

  test("bytes go up and come back, odd sizes and parts of words, and nothing is left in the heap", async () => {
    await using world = await open(size, options);
    for (const dtype of ["f32", "f16", "u8"] as const) {
      for (const count of [1, 3, 7, 113]) {
        for (const { values, expected, leaked } of await world.call("roundTrip", [dtype, count])) {
          expect(values).toEqual(expected);
          expect(leaked).toBe(0);
        }
      }
    }
    expect(new Set(await world.call("device", [])).size).toBe(1);
  });

  test("numbers that JSON has no form for arrive", async () => {
    await using world = await open(size, options);
    for (const pad of [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NaN, -0, 0.1]) {
      for (const { values, expected } of await world.call("pack", [Math.fround(pad)])) expect(values).toEqual(expected);
    }
  });

  test("a step is planned once, and its plan may be freed before the owner of the device is told", async () => {
    await using world = await open(size, options);
    // The first call makes what stays: messages grow.
    await world.call("planned", []);
    for (const [rank, { values, refused, left }] of (await world.call("planned", [])).entries()) {
      expect(values).toEqual([rank + 1, -rank].map((value) => Array.from({ length: 4 }, () => value + 0)));
      expect(refused.tag).toBe("UseAfterFree");
      expect([rank, left]).toEqual([rank, 0]);
    }
  });

  test("a batch is one upload, one submission and one map for all, and one that throws is none", async () => {
    await using world = await open(size, options);
    for (const [rank, { counts, values, expected }] of (await world.call("batch", [])).entries()) {
      const once = rank === 0 ? 1 : 0;
      expect(counts).toMatchObject({
        submit: once,
        writeBuffer: once,
        mapAsync: once,
        createBuffer: 0,
        createBindGroup: 0,
      });
      expect(values).toEqual(expected);
    }
    for (const { broken, values, expected, out, made } of await world.call("brokenBatch", [])) {
      expect(broken.message).toContain("no");
      expect(values).toEqual(expected);
      expect(out).toEqual([0, 0, 0, 0]);
      expect(made).toEqual([0, 0]);
    }
  });

  test("ops that nobody awaited in between run one after another", async () => {
    await using world = await open(size, options);
    for (const { values, expected } of await world.call("together", [])) expect(values).toEqual([expected, expected]);
  });
});

describe("what is wrong on one rank is that rank's alone", () => {
  const onlyOn = async (world: SharedWorld, wrong: number): Promise<void> => {
    for (const [rank, { told, values, after, expected }] of (await world.call("wrongShape", [wrong])).entries()) {
      expect(told.tag).toBe(rank === wrong ? "ArgumentError" : "none");
      if (rank === wrong) expect(told.message).toContain("out");
      expect(values.slice(0, 2)).toEqual(rank === wrong ? [0, 0] : expected.slice(0, 2));
      expect(after).toEqual(expected);
    }
    for (const [rank, { told, after }] of (await world.call("useAfterFree", [wrong])).entries()) {
      // The owner's own buffer is the driver's to refuse: a destroyed one.
      expect(told.tag === "none").toBe(rank !== wrong);
      expect(after).toEqual([7]);
    }
    for (const [rank, { told, after }] of (await world.call("tooLarge", [wrong])).entries()) {
      for (const each of told) expect(each.tag).toBe(rank === wrong ? "ArgumentError" : "none");
      if (rank === wrong) for (const each of told) expect(each.message).toMatch(/bytes on this device|number/);
      expect(after).toEqual([7]);
    }
  };

  test.each([1, 2])("of 3, rank %d", async (wrong) => {
    await using world = await open(3);
    await onlyOn(world, wrong);
    for (const { tag, message } of await world.call("wrongWrite", [])) {
      expect(tag).toBe("ArgumentError");
      expect(message).toContain("slotMapping");
    }
    for (const [rank, { tag, message }] of (await world.call("foreignTensor", [])).entries()) {
      expect(tag).toBe(rank === 0 ? "none" : "ArgumentError");
      if (rank > 0) expect(message).toContain("one of a GPU that another thread holds");
    }
  });
});

describe("ranks that do not come", () => {
  test.each([0, 1])("rank %d of 3: the others are told its name at the deadline", async (absent) => {
    const world = await open(3, {}, 1500);
    const outcomes = await world.call("absence", [absent], { deadlineMs: 20_000 });
    for (const [rank, { tag, message }] of outcomes.entries()) {
      if (rank === absent) continue;
      expect(["CollectiveTimeout", "GroupAborted"]).toContain(tag);
      expect(message).toContain(`${absent}`);
    }
    await world.close();
  });

  test("an owner that exits", async () => {
    const world = await open(3);
    const started = performance.now();
    const failure = await world.call("die", []).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(String(failure)).toMatch(/rank 0/i);
    expect(performance.now() - started).toBeLessThan(30_000);
    await world.close().catch(() => undefined);
  });

  test.each(["owner", "all"] as const)("after %s closed, ops fail on all ranks", async (who) => {
    const world = await open(3, {}, 1500);
    for (const [rank, { tag }] of (await world.call("afterClose", [who], { deadlineMs: 20_000 })).entries()) {
      const timesOut = who === "owner" && rank > 0;
      expect(timesOut ? ["CollectiveTimeout", "GroupAborted"] : ["BackendClosed"]).toContain(tag);
    }
    await world.close();
  });
});

test("a device that does not open is every rank's error, of its own class", async () => {
  const failure = await open(3, { index: -1 }).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(String(failure)).toContain("index");
  const unavailable = fromPlainError(
    toPlainError(new BackendUnavailable("webgpu", "no GPU was found", "Install one.")),
  );
  expect(unavailable).toBeInstanceOf(BackendUnavailable);
  expect(fromPlainError(toPlainError(new ArgumentError("f", "x", "1", "2")))).toBeInstanceOf(ArgumentError);
});

test.each([
  ["matrices", [{}, {}, { matrices: "off" }]],
  ["batchInvariant", [{ batchInvariant: true }, {}, {}]],
  ["index", [{ index: 1 }, {}, {}]],
  ["adapter", [{}, { adapter: "any" }, {}]],
] as const)("ranks that ask for another device are refused, both sides printed: %s", async (field, ofRanks) => {
  const failure: unknown = await open(3, { ofRanks }).catch((error: unknown) => error);
  expect(String(failure)).toContain("openSharedBackend: the ranks of group");
  expect(String(failure)).toContain(field);
});

test.each([null, undefined, 5, {}, { heap: SharedHeap.create(1) }])("no options of a kind: %p", async (wrong) => {
  expect(await outcomeOf(openSharedBackend(wrong as never))).toThrow(ArgumentError);
});

test("ranks of several processes cannot share a device, and are told so", async () => {
  const opening = openWorld<typeof program>({
    size: 2,
    worker: ranksApart(new URL("./shared-backend-program.ts", import.meta.url)),
    options: {},
  });
  expect(await outcomeOf(opening)).toThrow(/openSharedBackend: `group` must be ranks of one process/);
});
