import { expect, test } from "bun:test";
import fc from "fast-check";
import { exponential } from "./exponential.ts";

test("to within 2^-51 of its size, down to the least normal number", () => {
  fc.assert(
    fc.property(fc.double({ min: -708, max: 0, noNaN: true }), (x) => {
      const exact = Math.exp(x);
      expect(Math.abs(exponential(x) - exact)).toBeLessThanOrEqual(exact * 2 ** -51);
      expect(exponential(x)).toBeLessThanOrEqual(1);
    }),
    { numRuns: 2000 },
  );
});

test("1 for 0, subnormal numbers where they begin, 0 for what is too small, NaN for NaN", () => {
  expect([exponential(0), exponential(-0), exponential(-1e-300)]).toEqual([1, 1, 1]);
  for (const x of [-709, -720, -740, -745]) {
    expect(Math.abs(exponential(x) - Math.exp(x))).toBeLessThanOrEqual(Math.exp(x) * 2 ** -51 + Number.MIN_VALUE);
  }
  expect([exponential(-746), exponential(-1e300), exponential(Number.NEGATIVE_INFINITY)]).toEqual([0, 0, 0]);
  expect(exponential(Number.NaN)).toBeNaN();
});
