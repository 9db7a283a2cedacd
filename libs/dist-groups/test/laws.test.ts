import { expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { SUMMED_DTYPES } from "./collective-cases.ts";
import type { LawCase } from "./law-program.ts";
import { openWorld } from "../src/index.ts";

setDefaultTimeout(120_000);

type LawProgram = typeof import("./law-program.ts");
const program = new URL("./law-program.ts", import.meta.url);

const lawCase: fc.Arbitrary<LawCase> = fc
  .record({
    dtype: fc.constantFrom(...SUMMED_DTYPES),
    shape: fc.array(fc.integer({ min: 0, max: 24 }), { minLength: 1, maxLength: 3 }),
    dim: fc.nat({ max: 2 }),
    reduction: fc.constantFrom("sum" as const, "max" as const, "min" as const),
    deterministic: fc.constantFrom("rank-order" as const, "world-invariant" as const),
    seed: fc.nat({ max: 1e6 }),
  })
  .map((drawn) => ({ ...drawn, dim: drawn.dim % drawn.shape.length }));

test.each([2, 3, 4, 8])(
  "the laws hold, and the bits depend neither on timing nor on the protocol: %i ranks",
  async (size) => {
    const cases = fc.sample(lawCase, { numRuns: 25, seed: 20 + size });
    const digests: number[] = [];
    // Mostly direct, half and half, mostly staged; the second twice.
    for (const stagingBytes of [1280, 4096, 4096, 65_536]) {
      await using world = await openWorld<LawProgram>({
        size,
        program,
        stagingBytes,
        stagedLimit: stagingBytes,
        heapBytesPerRank: 16 << 20,
      });
      digests.push(...(await world.call("laws", [cases])));
    }
    expect(digests.length).toBe(4 * size);
    expect(new Set(digests).size).toBe(1);
  },
);

test("mixed collectives over interleaved groups, every result checked", async () => {
  await using world = await openWorld<LawProgram>({
    size: 4,
    program,
    heapBytesPerRank: 16 << 20,
    stagingBytes: 16_384,
    stagedLimit: 16_384,
    initialProgress: 2 ** 31 - 100,
    groups: {
      pairs: [
        [0, 1],
        [3, 2],
      ],
      cross: [
        [2, 0],
        [1, 3],
      ],
      most: [[3, 0, 1], [2]],
    },
  });
  const groups = ["world", "pairs", "cross", "most", "world"];
  expect(await world.call("soak", [groups, 1500, 5])).toEqual([1500, 1500, 1500, 1500]);
});
