import { expect, test } from "bun:test";
import fc from "fast-check";
import { rowSlices, SLICING } from "./row-slices.ts";

const counts = fc.record({ rows: fc.integer({ min: 1, max: 4096 }), bytes: fc.integer({ min: 0, max: 1 << 28 }) });

test("slices cover every row once, in order, about as many each, and none is small or empty", () => {
  fc.assert(
    fc.property(counts, ({ rows, bytes }) => {
      const slices = rowSlices(rows, bytes);
      let next = 0;
      for (const { start, end } of slices) {
        expect(start).toBe(next);
        expect(end).toBeGreaterThan(start);
        expect(Math.abs(end - start - rows / slices.length)).toBeLessThan(1);
        next = end;
      }
      expect(next).toBe(rows);
      expect(slices.length).toBeLessThanOrEqual(SLICING.most);
      if (slices.length > 1) expect(bytes / slices.length).toBeGreaterThanOrEqual(SLICING.leastBytes);
    }),
  );
});

test.each([
  [64, 0, 1],
  [64, (2 << 24) - 1, 1],
  [64, 2 << 24, 2],
  [64, 1 << 26, 4],
  [64, 1 << 30, 4],
  [3, 1 << 26, 3],
  [1, 1 << 26, 1],
])("%d rows of %d bytes in all are cut in %d", (rows, bytes, slices) => {
  expect(rowSlices(rows, bytes).length).toBe(slices);
});
