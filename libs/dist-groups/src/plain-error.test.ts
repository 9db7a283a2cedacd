import { describe, expect, test } from "bun:test";
import { ArgumentError, HeapExhausted, LockstepError } from "@lockstep/tensor";
import {
  CallTimeout,
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  RankCrashed,
  RemoteError,
  WorldStartFailed,
} from "./errors.ts";
import { fromPlainError, registerErrorClass, toPlainError } from "./plain-error.ts";

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
      expect(rebuilt.cause).toBeInstanceOf(
        error.cause.constructor === TypeError ? Error : (error.cause.constructor as new () => Error),
      );
      expect(rebuilt.cause).toHaveProperty("message", error.cause.message);
    }
  });
});

class OutOfBlocks extends LockstepError {
  readonly _tag = "OutOfBlocks";
  readonly asked: number;

  constructor(asked: number) {
    super(`${asked} blocks were asked.`);
    this.asked = asked;
  }
}

test("a typed error of another package keeps its tag and fields, and its class once registered", () => {
  const plain = toPlainError(new OutOfBlocks(3));
  const unknown = fromPlainError(plain);
  expect(unknown).toBeInstanceOf(RemoteError);
  expect(unknown).toMatchObject({ _tag: "OutOfBlocks", asked: 3, message: "3 blocks were asked." });
  expect(unknown.name).toBe("OutOfBlocks");
  registerErrorClass("OutOfBlocks", OutOfBlocks);
  const known = fromPlainError(plain);
  expect(known).toBeInstanceOf(OutOfBlocks);
  expect(known).toMatchObject({ _tag: "OutOfBlocks", asked: 3 });
});

test("anything can be thrown", () => {
  expect(fromPlainError(toPlainError("text")).message).toContain("text");
  expect(fromPlainError(toPlainError(undefined)).message).toContain("undefined");
  const plain = fromPlainError(toPlainError(new RangeError("r")));
  expect([plain.name, plain.message]).toEqual(["RangeError", "r"]);
});

test("fields that are not data stay behind", () => {
  const error = Object.assign(new OutOfBlocks(1), {
    callback: () => 1,
    nested: { deep: [1, { x: 2 }] },
    map: new Map(),
  });
  expect(Object.keys(toPlainError(error).fields ?? {}).toSorted()).toEqual(["_tag", "asked", "nested"]);
});

test("a chain of causes that loops is cut", () => {
  const a = new Error("a");
  a.cause = a;
  expect(fromPlainError(toPlainError(a)).message).toBe("a");
});
