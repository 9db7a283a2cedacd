// Ranks hold more together than one memory of 4 GiB does.
import { expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./capacity-program.ts";
import type { CapacityShape } from "./capacity-rows.ts";
import { checkCapacity, kvBytes } from "./check-capacity.ts";
import { outcomeOf } from "../outcome-of.ts";

setDefaultTimeout(600_000);

const SHAPE: CapacityShape = { layers: 1, queryHeads: 8, kvHeads: 8, headDim: 128, tokens: 1_100_001 };

test("4 ranks attend over a KV cache of more than 4 GiB as float64 does", async () => {
  expect(kvBytes(SHAPE)).toBeGreaterThan(2 ** 32);
  await checkCapacity(4, SHAPE, [0, 3, 7]);
});

test.each([1, 2, 3, 8])("%d ranks attend over a few tokens as float64 does", async (size) => {
  await checkCapacity(size, { ...SHAPE, layers: 2, queryHeads: 16, tokens: 3001 }, [0, 7, 15]);
});

test("one rank refuses what it cannot hold, in one line that says how much was asked", async () => {
  const opened = openWorld<typeof program>({
    size: 1,
    program: new URL("./capacity-program.ts", import.meta.url),
    options: SHAPE,
    heapBytesPerRank: 4 << 20,
    startDeadlineMs: 300_000,
  });
  expect(await outcomeOf(opened)).toThrow(/`bytes` must be an integer from 1 to 4294901760, but is \d+/);
});
