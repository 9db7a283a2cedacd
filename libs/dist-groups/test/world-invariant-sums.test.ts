import { expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { openWorld } from "../src/index.ts";
import type { SumCase } from "./world-invariant-sums-program.ts";

setDefaultTimeout(120_000);

type SumProgram = typeof import("./world-invariant-sums-program.ts");

const sumCase: fc.Arbitrary<SumCase> = fc.record({
  dtype: fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
  rows: fc.integer({ min: 1, max: 20 }),
  columns: fc.integer({ min: 1, max: 40 }),
  addends: fc.integer({ min: 1, max: 8 }),
  dim: fc.integer({ min: 0, max: 1 }),
  seed: fc.nat({ max: 1e6 }),
});

test("world-invariant sums have the same bits whichever of 1, 2, 3, 4, 5 or 8 ranks bring the addends", async () => {
  const cases = fc.sample(sumCase, { numRuns: 60, seed: 71 });
  const bits = new Map<SumCase, Set<string>>(cases.map((drawn) => [drawn, new Set()]));
  let sums = 0;
  for (const size of [1, 2, 3, 4, 5, 8]) {
    // All direct, and all staged.
    for (const stagedLimit of [0, 16_384]) {
      await using world = await openWorld<SumProgram>({
        size,
        program: new URL("./world-invariant-sums-program.ts", import.meta.url),
        stagingBytes: 16_384,
        stagedLimit,
        heapBytesPerRank: 8 << 20,
      });
      const fitting = cases.filter(({ addends }) => addends <= size);
      for (const turn of [0, 1]) {
        for (const results of await world.call("sums", [fitting, turn, turn === 1])) {
          for (const [at, result] of results.entries()) {
            const drawn = fitting[at];
            if (drawn !== undefined) bits.get(drawn)?.add(result.join());
            sums++;
          }
        }
      }
    }
  }
  expect(sums).toBeGreaterThan(60 * 8);
  for (const [drawn, different] of bits) expect([drawn, different.size]).toEqual([drawn, 1]);
});
