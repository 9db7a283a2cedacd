import { expect, test } from "bun:test";
import fc from "fast-check";
import { type FourWords, philox4x32, uniform } from "./philox.ts";

// Known answers of Random123 1.14: tests/kat_vectors, "philox4x32 10".
test.each<[FourWords, [number, number], FourWords]>([
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
])("Philox4x32-10 of counter %p under key %p", (counter, key, block) => {
  expect(philox4x32(counter, key)).toEqual(block);
});

const words = fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 6, maxLength: 6 });

test("the same blocks as in integers of any length", () => {
  fc.assert(
    fc.property(words, ([a = 0, b = 0, c = 0, d = 0, low = 0, high = 0]) => {
      let [c0, c1, c2, c3, k0, k1] = [a, b, c, d, low, high].map(BigInt) as [
        bigint,
        bigint,
        bigint,
        bigint,
        bigint,
        bigint,
      ];
      const mask = 0xffffffffn;
      for (let round = 0; round < 10; round++) {
        const [first, second] = [0xd2511f53n * c0, 0xcd9e8d57n * c2];
        [c0, c1, c2, c3] = [(second >> 32n) ^ c1 ^ k0, second & mask, (first >> 32n) ^ c3 ^ k1, first & mask];
        [k0, k1] = [(k0 + 0x9e3779b9n) & mask, (k1 + 0xbb67ae85n) & mask];
      }
      expect(philox4x32([a, b, c, d], [low, high])).toEqual([Number(c0), Number(c1), Number(c2), Number(c3)]);
    }),
  );
});

test("uniform numbers have 53 bits, and lie in [0, 1)", () => {
  // The first two words of the first known answer.
  expect(uniform(0, 0)).toBe(((0x6627e8d5 >>> 5) * 2 ** 26 + (0xe169c58d >>> 6)) / 2 ** 53);
  let odd = 0;
  for (let index = 0; index < 1000; index++) {
    const value = uniform(7, index);
    expect(value).toBeGreaterThanOrEqual(0);
    expect(value).toBeLessThan(1);
    expect(Number.isInteger(value * 2 ** 53)).toBe(true);
    if ((value * 2 ** 53) % 2 === 1) odd++;
  }
  expect(odd).toBeGreaterThan(400);
  expect(odd).toBeLessThan(600);
});

test("all 53 bits of seed and place count", () => {
  const found = new Set<number>();
  for (let bit = 0; bit < 53; bit++) found.add(uniform(2 ** bit, 0)).add(uniform(0, 2 ** bit));
  expect(found.add(uniform(0, 0)).size).toBe(2 * 53 + 1);
});
