// Random bad arguments of the public functions of the host: a typed error, before anything is opened.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import * as fc from "fast-check";
import { JUNK } from "./junk.ts";
import {
  chunkStart,
  formatFlightRecord,
  headRange,
  openWorld,
  type ParallelSizes,
  parallelGroups,
  WorldClosed,
  type WorldOptions,
} from "../src/index.ts";

setDefaultTimeout(120_000);

const program = new URL("./call-program.ts", import.meta.url);
const junk = Object.keys(JUNK);
const without = (...names: readonly string[]): string[] => junk.filter((name) => !names.includes(name));

async function errorOf(work: () => unknown): Promise<unknown> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** What each option takes, by the name of the junk. */
const WORLD_OPTIONS: Readonly<Record<string, readonly string[]>> = {
  size: junk,
  program: without("a text", "a long text"),
  heapBytesPerRank: junk,
  heapBytesHost: without("2 ** 31"),
  // These are objects without partitions.
  groups: without("a date", "an object without a prototype"),
  deadlineMs: without("0.5"),
  startDeadlineMs: without("0.5"),
  closeDeadlineMs: without("0.5"),
  signal: junk,
  stagingBytes: junk,
  stagedLimit: junk,
  initialProgress: without("-1", "-1e9"),
  // A function makes them.
  options: ["a symbol", "a revoked proxy"],
  unheardOf: junk,
};

test("openWorld: every option", async () => {
  for (const [option, names] of Object.entries(WORLD_OPTIONS)) {
    for (const name of names) {
      const options = { size: 2, program, heapBytesPerRank: 1 << 16, [option]: JUNK[name] } as unknown as WorldOptions;
      const error = await errorOf(() => openWorld(options));
      if (error === undefined || !(error instanceof ArgumentError)) throw new Error(`${option} took ${name}: ${error}`);
      const argument = option === "unheardOf" ? "options" : option;
      expect(error.argument.startsWith(argument) || (option === "groups" && error.argument === "name")).toBe(true);
    }
  }
  for (const name of without("an object without a prototype")) {
    expect(await errorOf(() => openWorld(JUNK[name] as WorldOptions))).toBeInstanceOf(ArgumentError);
  }
});

test.each<[string, Partial<Record<keyof WorldOptions, unknown>>]>([
  ["size", { size: 1e9 }],
  ["groups.a", { groups: { a: 5 } }],
  ["groups.a", { groups: { a: [5] } }],
  ["groups.a", { groups: { a: [[0, 0]] } }],
  ["groups.a", { groups: { a: [[0.5]] } }],
  ["groups.a", { groups: { a: [new Array(2)] } }],
  ["groups.a", { groups: { a: new Array(2) } }],
  ["groups.a", { groups: { a: Array.from({ length: 100_000 }, () => [0]) } }],
  ["groups", { groups: [[0, 1]] }],
  ["name", { groups: { "": [[0, 1]] } }],
  ["signal", { signal: {} }],
  ["heapBytesHost", { heapBytesHost: 2 ** 32 }],
  ["heapBytesHost", { heapBytesHost: 4_294_000_000 }],
  ["heapBytesPerRank", { heapBytesPerRank: 2 ** 32 }],
  ["stagingBytes", { stagingBytes: 2 ** 30 }],
  ["initialProgress", { initialProgress: 2 ** 31 }],
  ["options", { options: { callback: () => 1 } }],
  ["options", { options: () => ({ callback: () => 1 }) }],
  ["options", { options: () => Symbol("junk") }],
])("openWorld: %s %j", async (argument, change) => {
  const error = await errorOf(() => openWorld({ size: 2, program, ...change } as WorldOptions));
  expect(error).toBeInstanceOf(ArgumentError);
  expect(error).toHaveProperty("argument", argument);
  expect(String((error as Error).message).length).toBeLessThan(500);
});

test("a world refuses bad arguments to its methods, and goes on; once it is closed they all say so", async () => {
  const world = await openWorld<typeof import("./call-program.ts")>({
    size: 2,
    program,
    heapBytesPerRank: 1 << 16,
  });
  const call = (method: string, ...args: readonly unknown[]) =>
    errorOf(() => Reflect.apply(Reflect.get(world, method) as (...args: unknown[]) => unknown, world, args));
  const names = fc.constantFrom(...junk);
  const bad = fc.oneof(
    names.map((name) => ["callRank", name, "steps", []]),
    fc.constantFrom(...without("a text", "a long text", "an empty text")).map((name) => ["call", name, []]),
    fc
      .constantFrom(...without("a list of numbers", "a sparse list", "a list without end"))
      .map((name) => ["call", "steps", name]),
    fc.constantFrom(...without("a date", "an object without a prototype")).map((name) => ["call", "steps", [], name]),
    fc.constantFrom(...without("a text")).map((name) => ["createGroup", name, [0, 1]]),
    names.map((name) => ["createGroup", "group", name]),
    fc
      .constantFrom(...without("a date", "an object without a prototype"))
      .map((name) => ["createGroup", "group", [0, 1], name]),
    names.map((name) => ["destroyGroup", name]),
    fc.constantFrom(...without("a date", "an object without a prototype")).map((name) => ["renewGroups", name]),
    names.map((name) => ["terminateRank", name]),
    fc
      .constantFrom("toString", "constructor", "__proto__", "hasOwnProperty", "nonsense")
      .map((name) => ["call", name, []]),
  );
  const property = fc.asyncProperty(bad, async ([method = "", ...args]) => {
    const given = args.map((arg) => (typeof arg === "string" && arg in JUNK ? JUNK[arg] : arg));
    const error = await call(String(method), ...given);
    if (!(error instanceof ArgumentError)) throw new Error(`taken: ${error}`, { cause: error });
  });
  await fc.assert(property, { seed: 5, numRuns: 800 });
  for (const key of ["deadlineMs", "signal", "dead"]) {
    for (const name of without("0.5")) {
      expect(await call("call", "steps", [], { [key]: JUNK[name] })).toBeInstanceOf(ArgumentError);
    }
  }
  expect(await world.call("step", [])).toEqual([1, 1]);

  const { heap } = world;
  await world.close();
  expect(heap.totalBytes).toBeGreaterThan(0);
  for (const [method, ...args] of [
    ["call", "steps", []],
    ["callRank", 0, "steps", []],
    ["createGroup", "late", [0, 1]],
    ["destroyGroup", "late"],
    ["renewGroups"],
    ["flightRecord"],
    ["terminateRank", 0],
  ] as const) {
    expect(await call(method, ...args)).toBeInstanceOf(WorldClosed);
  }
  expect(await errorOf(() => world.heap)).toBeInstanceOf(WorldClosed);
  expect(world.size).toBe(2);
  await world.close();
});

describe("layouts and chunks", () => {
  test("parallelGroups", async () => {
    const good: ParallelSizes = { layout: "classic", dp: 1, pp: 1, pcp: 1, tp: 2, dcp: 2 };
    for (const key of [...Object.keys(good), "cp"]) {
      for (const name of junk) {
        const error = await errorOf(() => parallelGroups({ ...good, [key]: JUNK[name] } as ParallelSizes));
        if (!(error instanceof ArgumentError)) throw new Error(`${key} took ${name}: ${error}`);
      }
    }
    for (const sizes of [{ dp: 1e9 }, { dp: 300, pp: 300 }, { tp: 2 ** 40, dcp: 1 }]) {
      expect(await errorOf(() => parallelGroups({ ...good, ...sizes }))).toBeInstanceOf(ArgumentError);
    }
    for (const name of junk) {
      expect(await errorOf(() => parallelGroups(JUNK[name] as ParallelSizes))).toBeInstanceOf(ArgumentError);
    }
  });

  test("headRange and chunkStart", async () => {
    for (const name of without("2 ** 31", "2 ** 53")) {
      for (const at of [0, 1, 2]) {
        const args = [8, 1, 2].with(at, JUNK[name] as number) as [number, number, number];
        expect(await errorOf(() => headRange(...args))).toBeInstanceOf(ArgumentError);
        expect(await errorOf(() => chunkStart(...args))).toBeInstanceOf(ArgumentError);
      }
    }
    expect(await errorOf(() => headRange(2 ** 53, 1, 2))).toBeInstanceOf(ArgumentError);
    expect(await errorOf(() => chunkStart(2 ** 52, 1, 4))).toBeInstanceOf(ArgumentError);
    expect(await errorOf(() => chunkStart(8, 3, 2))).toBeInstanceOf(ArgumentError);
  });

  test("formatFlightRecord", async () => {
    for (const name of junk) {
      expect(await errorOf(() => formatFlightRecord(JUNK[name] as never))).toBeInstanceOf(ArgumentError);
      if (name.startsWith("2 **") || name === "1e308") continue;
      const record = { takenAtMs: 0, groups: [] };
      expect(await errorOf(() => formatFlightRecord(record, JUNK[name] as number))).toBeInstanceOf(ArgumentError);
    }
  });
});
