import { describe, expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import fc from "fast-check";
import {
  checkKvShard,
  globalPosition,
  type KvShard,
  kvBlockSize,
  kvOwner,
  kvSlot,
  kvTurnEnd,
  kvWeight,
  kvWeightSum,
  localLength,
  visibleRange,
} from "./kv-ownership.ts";

/** Positions below `length` that a shard stores, by definition. */
function stored(shard: KvShard, length: number): number[] {
  const { index, count, interleave, weights = new Array<number>(count).fill(1) } = shard;
  const turns = weights.flatMap((weight, owner) => new Array<number>(weight * interleave).fill(owner));
  const positions: number[] = [];
  for (let position = 0; position < length; position++) {
    if (turns[position % turns.length] === index) positions.push(position);
  }
  return positions;
}

const COUNTS = [1, 2, 3, 4, 5, 6, 7, 8];
const INTERLEAVES = [1, 2, 4, 16, 64];

describe("localLength", () => {
  test("is how many positions a shard stores, for every small length", () => {
    for (const count of COUNTS) {
      for (const interleave of INTERLEAVES) {
        const held = new Array<number>(count).fill(0);
        for (let length = 0; length <= 1200; length++) {
          for (let index = 0; index < count; index++) {
            expect(localLength({ index, count, interleave }, length)).toBe(held[index] ?? -1);
          }
          const owner = kvOwner(length, count, interleave);
          held[owner] = (held[owner] ?? 0) + 1;
        }
      }
    }
  });

  test("sums to the length and differs by at most the interleave, for long contexts", () => {
    for (const count of COUNTS) {
      for (const interleave of INTERLEAVES) {
        for (const length of [1, 4095, 4096, 4097, 10_000, 16_383, 22_860, 1_000_003, 2 ** 31 - 1]) {
          const lengths = COUNTS.slice(0, count).map((_, index) => localLength({ index, count, interleave }, length));
          expect(lengths.reduce((sum, local) => sum + local, 0)).toBe(length);
          expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThanOrEqual(interleave);
        }
      }
    }
  });

  test("of later queries of a step is the length up to them, not the final length less a constant", () => {
    for (const count of [2, 4]) {
      for (const interleave of [1, 2]) {
        for (const queries of [1, 7, 64, 256]) {
          for (const context of [0, 1, 5, 130]) {
            for (let index = 0; index < count; index++) {
              const shard = { index, count, interleave };
              for (let query = 0; query < queries; query++) {
                const seen = stored(shard, context + query + 1).length;
                expect(visibleRange(shard, context + query)).toEqual({ start: 0, end: seen });
              }
            }
          }
        }
      }
    }
    expect(localLength({ index: 0, count: 2, interleave: 1 }, 9)).toBe(5);
    expect(localLength({ index: 0, count: 2, interleave: 1 }, 8)).toBe(4);
    expect(localLength({ index: 1, count: 2, interleave: 1 }, 8)).toBe(4);
  });
});

/** Weights of so many shards, of which some may be 0, but not all. */
function weightsOf(count: number): fc.Arbitrary<readonly number[]> {
  const weight = fc.integer({ min: 0, max: 5 });
  return fc.array(weight, { minLength: count, maxLength: count }).filter((weights) => weights.some((one) => one > 0));
}

const shards = fc
  .record({ count: fc.integer({ min: 1, max: 8 }), interleave: fc.constantFrom(...INTERLEAVES) })
  .chain(({ count, interleave }) =>
    fc
      .record({ index: fc.integer({ min: 0, max: count - 1 }), weights: fc.option(weightsOf(count)) })
      .map(({ index, weights }): KvShard => {
        return { index, count, interleave, ...(weights === null ? {} : { weights }) };
      }),
  );

/** A shard that stores something. */
const storing = shards.filter((shard) => kvWeight(shard) > 0);

test("globalPosition lists the stored positions in order", () => {
  fc.assert(
    fc.property(shards, fc.integer({ min: 0, max: 3000 }), (shard, length) => {
      const positions = stored(shard, length);
      expect(positions.map((_, local) => globalPosition(shard, local))).toEqual(positions);
    }),
    { seed: 1 },
  );
});

test("kvOwner names the one shard that stores a position, for any weights", () => {
  fc.assert(
    fc.property(shards, fc.integer({ min: 0, max: 3000 }), ({ count, interleave, weights }, position) => {
      const owners = Array.from({ length: count }, (_, index): KvShard => {
        return { index, count, interleave, ...(weights === undefined ? {} : { weights }) };
      }).filter((shard) => localLength(shard, position + 1) > localLength(shard, position));
      expect(owners.map(({ index }) => index)).toEqual([kvOwner(position, count, interleave, weights)]);
    }),
    { seed: 4 },
  );
});

test("equal weights deal as no weights do, with turns as many times as long", () => {
  fc.assert(
    fc.property(
      fc.record({ count: fc.integer({ min: 1, max: 8 }), interleave: fc.constantFrom(...INTERLEAVES) }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 0, max: 5000 }),
      ({ count, interleave }, weight, position) => {
        const weights = new Array<number>(count).fill(weight);
        const blocks = Array.from({ length: 5001 }, (_, index) => index);
        for (let index = 0; index < count; index++) {
          const plain = { index, count, interleave: interleave * weight };
          const weighted = { index, count, interleave, weights };
          expect(localLength(weighted, position)).toBe(localLength(plain, position));
          expect(globalPosition(weighted, position)).toBe(globalPosition(plain, position));
          const blockSize = kvBlockSize(weighted, interleave * 2);
          expect(kvSlot(weighted, position, blockSize, blocks)).toBe(kvSlot(plain, position, blockSize, blocks));
        }
        expect(kvOwner(position, count, interleave, weights)).toBe(kvOwner(position, count, interleave * weight));
      },
    ),
    { seed: 5 },
  );
});

test("a block covers the same positions on every shard, and each fills its own part of it", () => {
  fc.assert(
    fc.property(shards, fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 20 }), (shard, runs, block) => {
      const blockSize = shard.interleave * runs;
      const covered = blockSize * kvWeightSum(shard);
      const own = kvBlockSize(shard, blockSize);
      expect(localLength(shard, block * covered)).toBe(block * own);
      const blocks = Array.from({ length: block + 1 }, (_, index) => index);
      const slots = Array.from({ length: covered }, (_, at) => kvSlot(shard, block * covered + at, own, blocks));
      const stored = Array.from({ length: own }, (_, at) => block * own + at);
      expect(slots.filter((slot) => slot >= 0)).toEqual(stored);
    }),
    { seed: 6 },
  );
});

test("kvSlot puts stored positions one after another into the blocks, and others nowhere", () => {
  fc.assert(
    fc.property(storing, fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 2000 }), (shard, runs, length) => {
      const blockSize = kvBlockSize(shard, shard.interleave * runs);
      const blocks = Array.from({ length: Math.ceil(length / blockSize) + 1 }, (_, index) => (index * 7 + 3) % 1009);
      let local = 0;
      for (let position = 0; position < length; position++) {
        const slot = kvSlot(shard, position, blockSize, blocks);
        if (kvOwner(position, shard.count, shard.interleave, shard.weights) !== shard.index) {
          expect(slot).toBe(-1);
          continue;
        }
        expect(slot).toBe((blocks[Math.floor(local / blockSize)] ?? -1) * blockSize + (local % blockSize));
        local++;
      }
    }),
    { seed: 2, numRuns: 60 },
  );
});

test("visibleRange is what a query sees, for any window", () => {
  fc.assert(
    fc.property(
      shards,
      fc.integer({ min: -1, max: 1500 }),
      fc.option(fc.integer({ min: 1, max: 2000 }), { nil: undefined }),
      (shard, position, window) => {
        const { start, end } = visibleRange(shard, position, window);
        const seen = stored(shard, position + 1).filter((key) => window === undefined || key > position - window);
        expect(end - start).toBe(seen.length);
        expect(seen.map((_, index) => globalPosition(shard, start + index))).toEqual(seen);
      },
    ),
    { seed: 3 },
  );
});

test("a block table that is too short is an error", () => {
  const shard = { index: 0, count: 2, interleave: 1 };
  expect(kvSlot(shard, 30, 16, [4])).toBe(4 * 16 + 15);
  expect(() => kvSlot(shard, 32, 16, [4])).toThrow(
    /`blockTable` must be at least 2 blocks for position 32, but is 1 blocks/,
  );
});

test("checkKvShard rejects what is malformed", () => {
  const check = (shard: KvShard): void => checkKvShard("test", shard, 16);
  expect(() => check({ index: 1, count: 2, interleave: 16 })).not.toThrow();
  expect(() => check({ index: 0, count: 2, interleave: 8, weights: [2, 3] })).not.toThrow();
  expect(() => check({ index: 1, count: 2, interleave: 8, weights: [3, 0] })).not.toThrow();
  for (const shard of [
    { index: 0, count: 0, interleave: 1 },
    { index: 0, count: 1.5, interleave: 1 },
    { index: 2, count: 2, interleave: 1 },
    { index: -1, count: 2, interleave: 1 },
    { index: 0, count: 2, interleave: 0 },
    { index: 0, count: 2, interleave: 3 },
    { index: 0, count: 2, interleave: 32 },
    { index: 0, count: 2, interleave: 1, weights: [1] },
    { index: 0, count: 2, interleave: 1, weights: [0, 0] },
    { index: 0, count: 2, interleave: 1, weights: [1, -1] },
    { index: 0, count: 2, interleave: 1, weights: [1, 0.5] },
    { index: 0, count: 2, interleave: 1, weights: [2 ** 16, 1] },
    { index: 0, count: 2, interleave: 8, weights: [3, 1] },
  ]) {
    expect(() => check(shard)).toThrow(ArgumentError);
  }
});

test("kvTurnEnd is where positions stop to lie one after another in a shard", () => {
  const weighted = [undefined, [3, 0, 1, 2]] as const;
  for (const weights of weighted) {
    for (const interleave of [1, 2, 5]) {
      for (let position = 0; position < 90; position++) {
        const index = kvOwner(position, 4, interleave, weights);
        const shard = { index, count: 4, interleave, ...(weights === undefined ? {} : { weights }) };
        const end = kvTurnEnd(shard, position);
        for (let next = position; next < end; next++) {
          expect(globalPosition(shard, localLength(shard, position) + next - position)).toBe(next);
        }
        expect(kvOwner(end, 4, interleave, weights)).not.toBe(index);
      }
    }
  }
});
