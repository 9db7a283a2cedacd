import { expect, test } from "bun:test";
import fc from "fast-check";
import { cosine, fillRotations, inverseFrequencies, naturalLog, sine } from "./rope-angles.ts";
import { readRopeScaling, ropeTurns } from "./rope-scaling.ts";

test("sine and cosine agree with the engine's to within 1e-15 over long texts", () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 2 ** 20, noNaN: true }), (angle) => {
      const rounded = Math.fround(angle);
      expect(Math.abs(sine(rounded) - Math.sin(rounded))).toBeLessThan(1e-15);
      expect(Math.abs(cosine(rounded) - Math.cos(rounded))).toBeLessThan(1e-15);
    }),
    { numRuns: 5000 },
  );
});

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

test("rows follow the positions, whatever the step they belong to", () => {
  const frequencies = inverseFrequencies(10000, 4);
  const cosines = new Float32Array(40);
  const sines = new Float32Array(40);
  fillRotations(cosines, sines, frequencies, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect([cosines[0], sines[0]]).toEqual([1, 0]);
  expect(cosines[9 * 4]).toBeCloseTo(Math.cos(9), 6);
  expect(sines[9 * 4 + 3]).toBeCloseTo(Math.sin(9 * 10000 ** (-3 / 4)), 6);
  const later = new Float32Array(8);
  fillRotations(later, new Float32Array(8), frequencies, [8, 9]);
  expect(later).toEqual(cosines.slice(32));
});

test.each([1, 1.5, 2, 0.1, 4, 10000, 1e6, 327.68, 1e-5])("the natural logarithm of %d", (value) => {
  const exact = Math.log(value);
  expect(Math.abs(naturalLog(value) - exact)).toBeLessThanOrEqual(1e-15 * Math.max(1, Math.abs(exact)));
});

test.each(["linear", "llama3", "yarn"])(
  "whatever factor of %s is accepted, every rotation is a rotation",
  (rope_type) => {
    const exponent = fc.double({ min: -5, max: 38, noNaN: true });
    fc.assert(
      fc.property(
        exponent,
        fc.integer({ min: 1, max: 2 ** 20 }),
        fc.constantFrom(1.001, 1e4, 3e38),
        (power, most, theta) => {
          const json = { rope_type, factor: 10 ** power, low_freq_factor: 1, high_freq_factor: 4, attention_factor: 1 };
          let scaling: ReturnType<typeof readRopeScaling>;
          try {
            scaling = readRopeScaling("config.json", "rope_parameters", json, most);
          } catch (error) {
            expect(String(error)).toContain("positions / factor below 2^31");
            return;
          }
          const [cosines, sines] = [new Float32Array(16), new Float32Array(16)];
          fillRotations(cosines, sines, ropeTurns(theta, 8, scaling).frequencies, [most - 1, most >> 1]);
          for (const [index, value] of cosines.entries())
            expect(Math.hypot(value, sines[index] ?? 0)).toBeCloseTo(1, 6);
        },
      ),
      { seed: 7, numRuns: 500 },
    );
  },
);
