import { expect, test } from "bun:test";
import { averageKeys, keysPerSplit } from "./kernel-shape.ts";

const item = (end: number): { start: number; end: number } => ({ start: 0, end });

test("the average is rounded up by less than a quarter, and seldom changes", () => {
  expect(averageKeys([])).toBe(0);
  expect(averageKeys([item(0), item(0)])).toBe(0);
  expect(averageKeys([item(7)])).toBe(7);
  expect(averageKeys([item(100_000)])).toBe(114_688);
  expect(averageKeys([item(110_000)])).toBe(114_688);
  for (let keys = 1; keys < 3000; keys++) {
    expect(averageKeys([item(keys)])).toBeGreaterThanOrEqual(keys);
    expect(averageKeys([item(keys)])).toBeLessThanOrEqual(1.25 * keys);
  }
});

test("a long sequence gets about as many splits in a ragged batch as alone", () => {
  const [kvHeads, long] = [8, 100_000];
  const alone = keysPerSplit(kvHeads, averageKeys([item(long)]), long, 1000);
  const ragged = [0, 1, 7, long].map(item);
  const together = keysPerSplit(ragged.length * kvHeads, averageKeys(ragged), long, 1000);
  expect(Math.ceil(long / together) / Math.ceil(long / alone)).toBeGreaterThan(0.75);
});

test("splits are bounded by what their partial results may take", () => {
  expect(Math.ceil(100_000 / keysPerSplit(8, 100_000, 100_000, 10))).toBe(10);
});
