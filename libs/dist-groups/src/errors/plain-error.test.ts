import { describe, expect, test } from "bun:test";
import { ArgumentError, HeapExhausted, LockstepError, registerErrorClass } from "@lockstep/tensor";
import { ERROR_RECORD_WORDS, readErrorRecord, writeErrorRecord } from "./error-record.ts";
import {
  CallTimeout,
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  RankCrashed,
  RemoteError,
  WorldStartFailed,
} from "./errors.ts";
import { fromPlainError, toPlainError } from "./plain-error.ts";

const timeout = new CollectiveTimeout("dcp", "allGather", 7, [1, 3], 250);

describe("errors cross a worker boundary with class, fields and cause", () => {
  test.each<[LockstepError]>([
    [timeout],
    [new CollectiveMismatch("dcp", 4, [{ ranks: [0], description: "barrier" }])],
    [new GroupAborted("dcp", "barrier", [1, 3], timeout)],
    [new RankCrashed(2, "it called process.exit(3)", new TypeError("inner"))],
    [new CallTimeout("step", [0, 1], 100)],
    [new WorldStartFailed([1], "no", new Error("why"))],
    [new ArgumentError("op", "dim", "small", "large", "Use less.")],
    [new HeapExhausted("SharedHeap", 10, 5, 4, 20)],
  ])("%#", (error) => {
    const rebuilt = fromPlainError(structuredClone(toPlainError(error)));
    expect(rebuilt).toBeInstanceOf(error.constructor as new () => Error);
    expect(rebuilt).toBeInstanceOf(Error);
    expect(rebuilt.message).toBe(error.message);
    expect(rebuilt.name).toBe(error.name);
    expect(rebuilt.stack).toBe(error.stack ?? "");
    for (const [key, value] of Object.entries(error)) {
      if (!["line", "column", "sourceURL"].includes(key)) expect(Reflect.get(rebuilt, key)).toEqual(value);
    }
    if (error.cause instanceof Error) {
      expect(rebuilt.cause).toBeInstanceOf(error.cause.constructor as new () => Error);
      expect(rebuilt.cause).toHaveProperty("message", error.cause.message);
    }
  });
});

class OutOfCrates extends LockstepError {
  readonly _tag = "OutOfCrates";
  readonly asked: number;

  constructor(asked: number) {
    super(`${asked} crates were asked.`);
    this.asked = asked;
  }
}

test("a typed error whose class is not defined here keeps its tag and fields, and becomes an instance later", () => {
  const plain = toPlainError(new OutOfCrates(3));
  const early = fromPlainError(plain);
  expect(early).toBeInstanceOf(RemoteError);
  expect(early).not.toBeInstanceOf(OutOfCrates);
  expect(early).toMatchObject({ _tag: "OutOfCrates", asked: 3, message: "3 crates were asked." });
  expect(early.name).toBe("OutOfCrates");
  registerErrorClass("OutOfCrates", OutOfCrates);
  for (const error of [early, fromPlainError(plain)]) {
    expect(error).toBeInstanceOf(OutOfCrates);
    expect(error).not.toBeInstanceOf(RemoteError);
    expect(error).toMatchObject({ _tag: "OutOfCrates", asked: 3, name: "OutOfCrates" });
  }
});

/** Across a worker boundary, and through shared memory. */
function crossed(thrown: unknown): Error[] {
  const words = new Int32Array(new SharedArrayBuffer(4 * ERROR_RECORD_WORDS));
  writeErrorRecord(words, 0, thrown);
  return [structuredClone(toPlainError(thrown)), readErrorRecord(words, 0)].map(fromPlainError);
}

test("built-in errors stay what they are, with the fields that systems put on them", () => {
  for (const error of [
    new TypeError("t"),
    new RangeError("r"),
    new SyntaxError("s"),
    Object.assign(new Error("ENOENT: no such file"), { code: "ENOENT", errno: -2, path: "/nowhere" }),
    new DOMException("gone", "AbortError"),
    new (class Custom extends RangeError {
      override name = "Custom";
    })("c"),
  ]) {
    for (const rebuilt of crossed(error)) {
      expect(rebuilt).toBeInstanceOf(error instanceof RangeError ? RangeError : (error.constructor as new () => Error));
      expect([rebuilt.name, rebuilt.message]).toEqual([error.name, error.message]);
      if (!(error instanceof DOMException)) expect(Reflect.get(rebuilt, "code")).toBe(Reflect.get(error, "code"));
    }
  }
});

test("errors within errors: an AggregateError, a SuppressedError, fields, chains of causes", () => {
  const chain = new GroupAborted("dcp", "barrier", [2], new RankCrashed(2, "no blocks", new OutOfCrates(7)));
  const all = new AggregateError([chain, new RangeError("r"), "text", () => 1], "several", { cause: timeout });
  const suppressed = new SuppressedError(new OutOfCrates(1), chain, "while closing");
  const holder = Object.assign(new OutOfCrates(2), { inner: chain, list: [new RangeError("in a list")] });
  for (const rebuilt of crossed(all) as AggregateError[]) {
    expect(rebuilt).toBeInstanceOf(AggregateError);
    expect(rebuilt.errors[0]).toBeInstanceOf(GroupAborted);
    expect(rebuilt.errors[0].cause).toBeInstanceOf(RankCrashed);
    expect(rebuilt.errors[0].cause.cause).toBeInstanceOf(OutOfCrates);
    expect(rebuilt.errors[0].cause.cause.asked).toBe(7);
    expect(rebuilt.errors[1]).toBeInstanceOf(RangeError);
    expect(rebuilt.errors[2]).toBe("text");
    expect(rebuilt.errors[3]).toContain("function");
    expect(rebuilt.cause).toBeInstanceOf(CollectiveTimeout);
    expect(rebuilt.cause).toMatchObject({ missing: [1, 3], sequence: 7 });
  }
  for (const rebuilt of crossed(suppressed) as SuppressedError[]) {
    expect(rebuilt).toBeInstanceOf(SuppressedError);
    expect([rebuilt.error, rebuilt.suppressed].map(({ name }) => name)).toEqual(["OutOfCrates", "GroupAborted"]);
  }
  for (const rebuilt of crossed(holder)) {
    expect(Reflect.get(rebuilt, "inner")).toBeInstanceOf(GroupAborted);
    expect(Reflect.get(rebuilt, "list")[0]).toBeInstanceOf(RangeError);
  }
});

test("numbers that JSON does not know survive, as do causes that are not errors", () => {
  const values = [Number.NaN, Number.POSITIVE_INFINITY, -0, 10n ** 30n, undefined, null, { deep: [1, -0] }];
  for (const rebuilt of crossed(Object.assign(new OutOfCrates(1), { values }))) {
    expect(Reflect.get(rebuilt, "values")).toEqual(values);
    expect(Object.is(Reflect.get(rebuilt, "values")[2], -0)).toBe(true);
  }
  for (const cause of [5, "why", { code: 3 }]) {
    for (const rebuilt of crossed(new Error("e", { cause }))) expect(rebuilt.cause).toEqual(cause);
  }
  for (const rebuilt of crossed(new Error("e", { cause: () => 1 }))) expect(rebuilt.cause).toContain("function");
});

const revoked = Proxy.revocable(new Error("gone"), {});
revoked.revoke();
const throwing = (): never => {
  throw new Error("looked at");
};
const cyclic: Record<string, unknown> = {};
cyclic.self = cyclic;

/** Whatever is thrown arrives as an error with a text. */
const UNPRINTABLE: readonly (readonly [string, unknown])[] = [
  ["text", "text"],
  ["undefined", undefined],
  ["an object without a prototype", Object.create(null)],
  ["a symbol", Symbol("s")],
  ["a function", () => 1],
  ["a proxy that throws", new Proxy(new Error("p"), { get: throwing, getPrototypeOf: throwing, ownKeys: throwing })],
  ["a revoked proxy", revoked.proxy],
  ["an object whose toString throws", { toString: throwing }],
  [
    "an error whose getters throw",
    Object.defineProperties(new Error("m"), {
      message: { get: throwing },
      name: { get: throwing },
      cause: { get: throwing },
      stack: { get: throwing },
    }),
  ],
  ["an error whose message is no text", Object.assign(new OutOfCrates(1), { message: Object.create(null) })],
  ["a cyclic object", cyclic],
  ["an error with a cyclic field", Object.assign(new OutOfCrates(1), { cyclic })],
  ["a list of ten million", new Array(10_000_000)],
  ["an error with a field of ten million", Object.assign(new OutOfCrates(1), { list: new Array(10_000_000).fill(0) })],
  ["a message of ten million characters", new RangeError("x".repeat(10_000_000))],
  ["a bigint of 100,000 digits as a field", Object.assign(new OutOfCrates(1), { big: 10n ** 100_000n })],
];

test.each(UNPRINTABLE)("anything can be thrown: %s", (_, thrown) => {
  const start = toPlainError(thrown);
  expect(JSON.stringify(start).length).toBeLessThan(400_000);
  for (const error of crossed(thrown)) {
    expect(error).toBeInstanceOf(Error);
    expect(typeof error.name).toBe("string");
    expect(typeof error.message).toBe("string");
  }
});

test("fields that are not data stay behind", () => {
  const error = Object.assign(new OutOfCrates(1), {
    callback: () => 1,
    nested: { deep: [1, { x: 2 }] },
    map: new Map(),
  });
  expect(Object.keys(toPlainError(error).fields ?? {}).toSorted()).toEqual(["_tag", "asked", "nested"]);
});

test("chains of causes that loop, alone or in a ring, are cut", () => {
  const a = new Error("a");
  a.cause = a;
  const b = new Error("b", { cause: new Error("c") });
  (b.cause as Error).cause = b;
  for (const rebuilt of crossed(a)) expect([rebuilt.message, rebuilt.cause]).toEqual(["a", undefined]);
  for (const rebuilt of crossed(b)) {
    const inner = rebuilt.cause as Error;
    expect([inner.message, inner.cause]).toEqual(["c", undefined]);
  }
});

test("an error that does not fit a record keeps its class, and what fits of its fields", () => {
  const sides = Array.from({ length: 255 }, (_, rank) => ({ ranks: [rank], description: "d".repeat(200) }));
  const [, rebuilt] = crossed(new CollectiveMismatch("dcp", 4, sides));
  expect(rebuilt).toBeInstanceOf(CollectiveMismatch);
  expect(rebuilt).toMatchObject({ group: "dcp", sequence: 4 });
  expect(Reflect.get(rebuilt ?? {}, "sides").length).toBeGreaterThan(7);
});
