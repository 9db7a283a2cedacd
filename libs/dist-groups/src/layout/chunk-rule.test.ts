import { expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import * as fc from "fast-check";
import { chunkStart, headRange } from "./chunk-rule.ts";

test("8 heads over 3 ranks: 2, 3, 3", () => {
  expect([0, 1, 2].map((rank) => headRange(8, rank, 3))).toEqual([
    { start: 0, end: 2, count: 2 },
    { start: 2, end: 5, count: 3 },
    { start: 5, end: 8, count: 3 },
  ]);
});

test("chunks cover everything once, in order, and differ by at most one", () => {
  fc.assert(
    fc.property(fc.nat({ max: 1e6 }), fc.integer({ min: 1, max: 255 }), (length, parts) => {
      const starts = Array.from({ length: parts + 1 }, (_, part) => chunkStart(length, part, parts));
      expect([starts[0], starts[parts]]).toEqual([0, length]);
      const counts = starts.slice(1).map((start, part) => start - (starts[part] ?? 0));
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      expect(Math.min(...counts)).toBeGreaterThanOrEqual(0);
    }),
  );
});

test.each([
  [-1, 0, 1],
  [1.5, 0, 1],
  [4, 0, 0],
  [4, 2, 2],
  [4, -1, 2],
])("headRange(%p, %p, %p) is refused", (heads, rank, size) => {
  expect(() => headRange(heads, rank, size)).toThrow(ArgumentError);
});
