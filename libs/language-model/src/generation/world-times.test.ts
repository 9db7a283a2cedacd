import { expect, test } from "bun:test";
import { lowerQuartile, type TrialTimes, wholeStep, worldTimes } from "./world-times.ts";

const times = (steps: readonly number[][], prompts: number[] = []): TrialTimes => ({ steps, prompts });

test.each([
  [[7], 7],
  [[9, 5], 5],
  [[4, 3, 2, 1], 1],
  [[5, 4, 3, 2, 1], 2],
  [[8, 1, 7, 2, 6, 3, 5, 4, 9], 3],
  [[], 0],
])("the lower quartile of %j is %d", (all, expected) => {
  expect(lowerQuartile(all)).toBe(expected);
});

test("a step of the whole model: its other layers, and the rest of its output's rows", () => {
  const timed = { step: 10, layers: 6, output: 2 };
  const all = { part: 4, whole: 4 };
  expect(wholeStep(timed, all, { part: 100, whole: 100 })).toBe(10);
  // Three layers took 6: each of the 28 others takes 2.
  expect(wholeStep(timed, { part: 4, whole: 32 }, { part: 100, whole: 100 })).toBe(10 + 28 * 2);
  // A quarter of the rows took 2: the others take 6.
  expect(wholeStep(timed, all, { part: 100, whole: 400 })).toBe(16);
  expect(wholeStep(timed, { part: 4, whole: 32 }, { part: 100, whole: 400 })).toBe(72);
  // Of one layer nothing lies between the first attention and the last.
  expect(wholeStep({ step: 3, layers: 0, output: 0 }, { part: 1, whole: 1 }, { part: 5, whole: 5 })).toBe(3);
});

const one = { lengths: [99], timedTexts: 1, texts: 1, promptTokens: 0, context: 100 };

test("at a length that was timed: the step's own time, in whatever rounds it was taken", () => {
  expect(worldTimes([times([[5, 6, 7, 8]]), times([[4]])], one)).toEqual({ stepMs: 5, promptTokenMs: undefined });
});

test("of some of the texts: as much more as there are more", () => {
  expect(worldTimes([times([[6]])], { ...one, timedTexts: 16, texts: 40 }).stepMs).toBe(15);
});

test("beyond the lengths: each token takes as long as one between them, and never less than nothing", () => {
  const long = { ...one, lengths: [1000, 2000], context: 5001 };
  // 3 ms for 1000 tokens, 3000 of which are left.
  expect(worldTimes([times([[4], [7]])], long).stepMs).toBe(7 + 9);
  expect(worldTimes([times([[7], [4]])], long).stepMs).toBe(4);
  expect(worldTimes([times([[4], [7]])], { ...long, timedTexts: 2, texts: 3 }).stepMs).toBe(24);
});

test("a prompt's token takes its part of a step", () => {
  const found = worldTimes([times([[4]], [128]), times([[4]], [64, 256])], { ...one, promptTokens: 64 });
  expect(found).toEqual({ stepMs: 4, promptTokenMs: 1 });
});

test("of long texts, whose prompts are timed, the least time counts; of short ones the lower quartile", () => {
  const rounds = [times([[9, 8, 7]], [640, 128]), times([[6, 5, 4]], [320])];
  expect(worldTimes(rounds, one)).toEqual({ stepMs: 5, promptTokenMs: undefined });
  expect(worldTimes(rounds, { ...one, promptTokens: 64 })).toEqual({ stepMs: 4, promptTokenMs: 2 });
});
