import { expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "../world/world.ts";

setDefaultTimeout(120_000);

type FuzzProgram = typeof import("../../test/argument-fuzz-program.ts");
const program = new URL("../../test/argument-fuzz-program.ts", import.meta.url);

test("random bad arguments of every collective: a typed error, nothing written, the group in step", async () => {
  await using world = await openWorld<FuzzProgram>({ size: 2, program, heapBytesPerRank: 1 << 16 });
  for (const seed of [1, 2, 3]) expect(await world.call("fuzz", [seed, 1_500])).toEqual([1_500, 0]);
});

test("tensors that were right in a call before and have been freed since are refused", async () => {
  await using world = await openWorld<FuzzProgram>({ size: 2, program, heapBytesPerRank: 1 << 16 });
  const [outcomes] = await world.call("freedAfterUse", []);
  expect(outcomes).toEqual(Array.from({ length: 8 }, () => "UseAfterFree"));
});
