import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { RandomStream } from "../../../../tests/random.ts";
import { anySampling, logitsOf } from "../../test/sampling-cases.ts";
import { drawToken, leftByCuts, PLAIN } from "../../test/sampling-reference.ts";
import { TokenDraw } from "./draw-token.ts";
import { LikeliestTokens } from "./likeliest-tokens.ts";
import { uniform } from "./philox.ts";
import type { Sampling } from "./sampling-options.ts";

function drawing(size: number): (logits: readonly number[], sampling: Sampling, chance: number) => number {
  const draw = new TokenDraw(size, new LikeliestTokens(size));
  return (logits, sampling, chance) => draw.draw(Float32Array.from(logits), Math.max(...logits), sampling, chance);
}

const anyChance = fc.oneof(fc.constantFrom(0, 1 - 2 ** -53), fc.double({ min: 0, max: 1 - 2 ** -53, noNaN: true }));
const hot = anySampling.filter(({ temperature }) => temperature > 0);

test.each([
  [1, 300],
  [3, 300],
  [5, 300],
  [7, 300],
  [113, 300],
  [4096, 30],
])("a token of %d is the one that sorting everything gives", (size, numRuns) => {
  const draw = drawing(size);
  fc.assert(
    fc.property(fc.nat(), hot, anyChance, (seed, sampling, chance) => {
      const logits = logitsOf(seed, size);
      const token = draw(logits, sampling, chance);
      expect(token).toBe(drawToken(logits, sampling, chance));
      expect(leftByCuts(logits, sampling).ids).toContain(token);
    }),
    { numRuns },
  );
});

test("flat and steep rows of many tokens, cut by top-p alone", () => {
  const size = 20_000;
  const draw = drawing(size);
  for (const [seed, topP] of [0.01, 0.5, 0.9, 0.999, 0.9999999].entries()) {
    for (const temperature of [0.3, 1, 4]) {
      const logits = logitsOf(seed, size);
      const sampling = { ...PLAIN, topP, temperature };
      for (const chance of [0, 0.4, 1 - 2 ** -53]) {
        expect(draw(logits, sampling, chance)).toBe(drawToken(logits, sampling, chance));
      }
    }
  }
});

describe("cuts", () => {
  const draw = drawing(4);
  /** Probabilities 1/2, 1/4, 1/8, 1/8. */
  const logits = [4, 2, 1, 1].map((weight) => Math.fround(Math.log(weight)));
  const drawn = (row: readonly number[], sampling: Partial<Sampling>): number[] => {
    const chances = Array.from({ length: 64 }, (_, at) => at / 64);
    return [...new Set(chances.map((chance) => draw(row, { ...PLAIN, ...sampling }, chance)))].sort((a, b) => a - b);
  };

  test("top-k takes the lowest ids among equals", () => {
    expect(drawn(logits, { topK: 3 })).toEqual([0, 1, 2]);
    expect(drawn([1, 1, 1, 1], { topK: 2 })).toEqual([0, 1]);
    expect(drawn([0, -0, 0, -0], { topK: 2 })).toEqual([0, 1]);
  });

  test("top-p keeps the fewest that reach it", () => {
    expect(drawn([1, 1, 1, 1], { topP: 0.5 })).toEqual([0, 1]);
    expect(drawn([1, 1, 1, 1], { topP: 0.51 })).toEqual([0, 1, 2]);
    expect(drawn(logits, { topP: 0.49 })).toEqual([0]);
    expect(drawn(logits, { topP: 0.7 })).toEqual([0, 1]);
    expect(drawn(logits, { topP: 1e-300 })).toEqual([0]);
  });

  test("min-p keeps those so many times as probable as the likeliest", () => {
    expect(drawn(logits, { minP: 0.4 })).toEqual([0, 1]);
    expect(drawn([3, 3, 3, 1], { minP: 1 })).toEqual([0, 1, 2]);
  });

  test("each looks at what the one before it left: temperature, min-p, top-k, top-p", () => {
    // Of 1/2 and 1/4 alone, the first has 2/3.
    expect(drawn(logits, { topP: 0.66 })).toEqual([0, 1]);
    expect(drawn(logits, { topP: 0.66, minP: 0.4 })).toEqual([0]);
    expect(drawn(logits, { topP: 0.66, topK: 2 })).toEqual([0]);
    // Their logits halved, 1 to 2^-0.5.
    expect(drawn(logits, { temperature: 2, topP: 0.66, minP: 0.6 })).toEqual([0, 1]);
  });

  test("a temperature near 0 takes the likeliest, without overflow", () => {
    for (const temperature of [1e-3, 1e-300, 5e-324]) {
      expect(drawn([-(2 ** 127), 2 ** 127, 2 ** 126, -(2 ** 127)], { temperature })).toEqual([1]);
      expect(drawn([1, 2, 2, 1], { temperature })).toEqual([1, 2]);
    }
  });
});

test.each<Partial<Sampling>>([
  {},
  { temperature: 0.5 },
  { temperature: 1.7, topP: 0.8 },
  { topK: 9 },
  { minP: 0.1 },
  { temperature: 1.3, topK: 20, topP: 0.9, minP: 0.05 },
])("tokens are drawn as often as they are probable: %o", (options) => {
  const size = 40;
  const draws = 20_000;
  const draw = drawing(size);
  const logits = [...new RandomStream(5).normals(size)];
  const sampling = { ...PLAIN, ...options };
  const counts = new Array<number>(size).fill(0);
  // Half of them of many seeds, half of one seed's many tokens.
  for (let at = 0; at < draws; at++) {
    const token = draw(logits, sampling, at % 2 === 0 ? uniform(at, 3) : uniform(3, at));
    counts[token] = (counts[token] ?? 0) + 1;
  }
  const { ids, weights } = leftByCuts(logits, sampling);
  const total = ids.reduce((all, id) => all + (weights[id] ?? 0), 0);
  let chiSquare = 0;
  for (const id of ids) {
    const expected = (draws * (weights[id] ?? 0)) / total;
    chiSquare += ((counts[id] ?? 0) - expected) ** 2 / expected;
  }
  // Five standard deviations above its mean.
  const freedom = ids.length - 1;
  expect(chiSquare).toBeLessThan(freedom + 5 * Math.sqrt(2 * freedom) + 5);
  expect(ids.reduce((all, id) => all + (counts[id] ?? 0), 0)).toBe(draws);
});
