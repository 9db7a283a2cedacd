import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { UnfitOptions } from "../errors.ts";
import { checkNamedRanks, kvWeightsOf, mostBlocks, weightSum } from "./kv-shares.ts";

const GIBI = 2 ** 30;

describe("weights from bytes", () => {
  test.each([
    [
      [3 * GIBI, GIBI],
      [3, 1],
    ],
    [
      [80 * GIBI, 80 * GIBI, 80 * GIBI],
      [1, 1, 1],
    ],
    [
      [80 * GIBI, 24 * GIBI],
      [10, 3],
    ],
    [
      [GIBI, 0, GIBI],
      [1, 0, 1],
    ],
    // Not worth a chunk sixteen times as long.
    [
      [1000 * GIBI, GIBI],
      [1, 0],
    ],
  ])("%p are %p", (kvBytes, weights) => {
    expect(kvWeightsOf({ kvBytes }, 4096)).toEqual(weights);
  });

  test("are what was given, where something was", () => {
    expect(kvWeightsOf({ kvWeights: [1, 5], kvBytes: [GIBI, GIBI] }, 4096)).toEqual([1, 5]);
    expect(kvWeightsOf({}, 4096)).toBeUndefined();
  });

  test("hold nearly as many tokens as any others up to 16, and no more than each rank has room for", () => {
    const bytes = fc.array(fc.integer({ min: 0, max: 2000 }), { minLength: 1, maxLength: 5 });
    const others = fc.array(fc.integer({ min: 0, max: 16 }), { minLength: 5, maxLength: 5 });
    fc.assert(
      fc.property(
        bytes.filter((room) => room.some((one) => one > 100)),
        fc.array(others, { minLength: 20, maxLength: 20 }),
        (kvBytes, drawn) => {
          const blockBytes = 3;
          const held = (weights: readonly number[]): number =>
            weightSum(weights, kvBytes.length) * mostBlocks(weights, kvBytes, blockBytes);
          const weights = kvWeightsOf({ kvBytes }, blockBytes) ?? [];
          const blocks = mostBlocks(weights, kvBytes, blockBytes);
          for (const [rank, weight] of weights.entries()) {
            expect(blocks * weight * blockBytes).toBeLessThanOrEqual(kvBytes[rank] ?? 0);
          }
          // One block more would be too much for somebody.
          const isMore = weights.some((weight, rank) => (blocks + 1) * weight * blockBytes > (kvBytes[rank] ?? 0));
          expect(isMore).toBe(true);
          for (const other of drawn.map((list) => list.slice(0, kvBytes.length))) {
            if (other.every((weight) => weight === 0)) continue;
            expect(held(weights)).toBeGreaterThanOrEqual(0.99 * held(other));
          }
        },
      ),
      { seed: 1 },
    );
  });
});

test("as many ranks share a cache as are named", () => {
  expect(() => checkNamedRanks({}, 4, 2)).not.toThrow();
  expect(() => checkNamedRanks({ kvWeights: [3, 1], kvBytes: [3, 1] }, 4, 2)).not.toThrow();
  for (const wrong of [{ kvWeights: [3, 1] }, { kvBytes: [1] }, { kvWeights: [1, 1, 1, 1], kvBytes: [1] }]) {
    expect(() => checkNamedRanks(wrong, 4, 4)).toThrow(UnfitOptions);
  }
  expect(() => checkNamedRanks({}, 4, 3)).not.toThrow();
  expect(() => checkNamedRanks({ kvBytes: [1] }, 4, 2)).toThrow(/has 1 entry, one for each rank .*, but `dcp` is 2\.$/);
  expect(() => checkNamedRanks({ kvWeights: [1, 2, 3] }, 4, 3)).toThrow(/, but 3 does not divide `world` 4\.$/);
});
