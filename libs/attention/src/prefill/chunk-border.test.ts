import { expect, test } from "bun:test";
import { type KvShard, localLength } from "@lockstep/kernels";
import fc from "fast-check";
import { contextBorder } from "./chunk-border.ts";

const shards: fc.Arbitrary<KvShard> = fc
  .record({
    weights: fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 8 }),
    interleave: fc.constantFrom(1, 2, 3, 8, 64),
    isEven: fc.boolean(),
  })
  .filter(({ weights }) => weights.some((weight) => weight > 0))
  .map(({ weights, interleave, isEven }) => {
    return { index: 0, count: weights.length, interleave, ...(isEven ? {} : { weights }) };
  });

test("a border is the first place where every shard has stored whole tiles of every backend", () => {
  const tiles = fc.array(fc.constantFrom(1, 4, 6, 16, 32), { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(shards, tiles, (shard, keys) => {
      const border = contextBorder(shard, keys);
      const { count, weights = new Array<number>(count).fill(1) } = shard;
      const round = weights.reduce((sum, weight) => sum + weight, 0) * shard.interleave;
      const isBorder = (length: number): boolean =>
        weights.every((_, index) => keys.every((tile) => localLength({ ...shard, index }, length) % tile === 0));
      expect(border % round).toBe(0);
      for (let length = round; length < border; length += round) expect(isBorder(length)).toBe(false);
      expect(isBorder(border)).toBe(true);
      expect(isBorder(2 * border)).toBe(true);
    }),
    { seed: 1 },
  );
});
