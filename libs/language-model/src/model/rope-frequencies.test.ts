import { expect, test } from "bun:test";
import { inverseFrequencies } from "./rope-frequencies.ts";

test.each([
  [10000, 32],
  [100000, 32],
  [500000, 64],
  [1000000, 5],
  [2, 1],
])("inverse frequencies of theta %d over %d pairs", (theta, half) => {
  const found = inverseFrequencies(theta, half);
  expect(found.length).toBe(half);
  expect(found[0]).toBe(1);
  for (let index = 0; index < half; index++) {
    const exact = theta ** (-index / half);
    expect(Math.abs((found[index] ?? 0) / exact - 1)).toBeLessThan(6.1e-8);
  }
});
