import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { BAD_CALL_NAMES } from "../../test/argument-program.ts";
import { type MethodsOf, openWorld, type World } from "../index.ts";

setDefaultTimeout(120_000);

describe("a bad argument is an ArgumentError, and nothing is published", () => {
  let world: World<MethodsOf<typeof import("../../test/argument-program.ts")>>;
  beforeAll(async () => {
    world = await openWorld<typeof import("../../test/argument-program.ts")>({
      size: 2,
      program: new URL("../../test/argument-program.ts", import.meta.url),
      heapBytesPerRank: 1 << 20,
    });
  });
  afterAll(() => world.close());

  test.each(BAD_CALL_NAMES.map((name, index) => [name, index] as const))("%s", async (_, index) => {
    const [outcome] = await world.call("refuse", [index]);
    expect(outcome).toEqual({
      error: "ArgumentError",
      argument: outcome?.expected ?? "",
      expected: outcome?.expected ?? "",
    });
  });
});
