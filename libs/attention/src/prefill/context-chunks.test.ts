import { expect, test } from "bun:test";
import fc from "fast-check";
import { contextChunks } from "./context-chunks.ts";

test("short sequences share a chunk, a long one takes several", () => {
  const ranges = [
    { first: 0, end: 3 },
    { first: 2, end: 2 },
    { first: 5, end: 30 },
  ];
  expect(contextChunks(ranges, 3, 4, 1)).toEqual([
    [
      { item: 0, first: 0, count: 3, firstBlock: 0 },
      { item: 2, first: 5, count: 8, firstBlock: 1 },
    ],
    [{ item: 2, first: 13, count: 12, firstBlock: 0 }],
    [{ item: 2, first: 25, count: 5, firstBlock: 0 }],
  ]);
});

test("every position lies in one segment, in order, and no chunk exceeds the workspace", () => {
  const range = fc.tuple(fc.nat(50), fc.nat(50)).map(([first, size]) => ({ first, end: first + size }));
  fc.assert(
    fc.property(
      fc.array(range, { maxLength: 6 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 7 }),
      fc.nat(),
      (drawn, blocks, blockSize, seed) => {
        const border = 1 + (seed % (blocks * blockSize));
        const ranges = drawn.map(({ first, end }) => ({ first: first - (first % border), end }));
        const next = ranges.map(({ first }) => first);
        for (const chunk of contextChunks(ranges, blocks, blockSize, border)) {
          let used = 0;
          expect(chunk.length).toBeGreaterThan(0);
          for (const { item, first, count, firstBlock } of chunk) {
            expect(first).toBe(next[item] ?? -1);
            expect(firstBlock).toBe(used);
            expect(count).toBeGreaterThan(0);
            next[item] = first + count;
            if (next[item] !== ranges[item]?.end) expect((first + count) % border).toBe(0);
            used += Math.ceil(count / blockSize);
          }
          expect(used).toBeLessThanOrEqual(blocks);
        }
        expect(next).toEqual(ranges.map(({ end }) => end));
      },
    ),
  );
});
