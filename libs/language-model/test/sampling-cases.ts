// Rows of logits and what may be asked of them, for fast-check.
import fc from "fast-check";
import { RandomStream } from "../../../tests/random.ts";
import type { RowRequest } from "../src/sampling/row-request.ts";
import type { Sampling } from "../src/sampling/sampling-options.ts";

/** All that may be asked of a row. */
export const anySampling: fc.Arbitrary<Sampling> = fc.record({
  temperature: fc.oneof(
    fc.constantFrom(0, 1, 0.7, 100, 1e-3, 1e-300, 5e-324),
    fc.double({ min: 0.2, max: 3, noNaN: true }),
  ),
  topP: fc.oneof(fc.constantFrom(1, 1e-9, 0.999999), fc.double({ min: 0.01, max: 1, noNaN: true })),
  topK: fc.oneof(fc.constantFrom(0, 1, 2, 50, 5000), fc.nat(120)),
  minP: fc.oneof(fc.constantFrom(0, 1), fc.double({ min: 1e-6, max: 1, noNaN: true })),
  seed: fc.nat(Number.MAX_SAFE_INTEGER),
  logprobs: fc.oneof({ weight: 2, arbitrary: fc.constant(-1) }, fc.integer({ min: 0, max: 20 })),
});

/** Of any token of a text. */
export const anyRequest: fc.Arbitrary<RowRequest> = fc.record({ sampling: anySampling, index: fc.nat(100_000) });

/** Logits of so many tokens: peaked, flat, with many ties, or of any size, by the seed. Exact in f32. */
export function logitsOf(seed: number, size: number): number[] {
  const random = new RandomStream(seed);
  const kind = random.below(5);
  return Array.from({ length: size }, () => {
    const value = random.normal();
    switch (kind) {
      case 0:
        return value;
      case 1:
        return Math.fround(8 * value);
      case 2:
        return Math.round(2 * value);
      case 3:
        return Math.fround(value * 10 ** (random.below(70) - 35));
      default:
        return Math.fround(value / 1000);
    }
  });
}
