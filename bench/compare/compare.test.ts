import { expect, test } from "bun:test";
import { pairedRatio } from "./paired-ratios.ts";
import { printedTimes } from "./printed-times.ts";

test("times are read from tables, by title and row", () => {
  const text = `AMD EPYC, 2 cores

Collectives over 2 ranks, data checked. Barrier: 0.11 us
  collective             time  algbw GB/s     memcpy
  all-gather 4 KiB    0.35 us       11.60    0.11 us
  all-gather 16 MiB   1.15 ms       14.60    1.54 ms

A layer: 32 sequences, read 26.6 GB/s
  each sequence    a layer  step
  1024 local keys  13.0 us  58 us
  1024 local keys  2.0 s    58 us

Long contexts
  ranks   ms a step  of one
  1 rank  4          1.00

Decoding
  world    steps/s  of one rank  steps/s, long  prefill, long
  2 ranks      250         1.25            200         2.50 s
`;
  expect([...printedTimes(text)]).toEqual([
    ["Collectives over 2 ranks, data checked. Barrier: | all-gather 4 KiB", 0.35e-6],
    ["Collectives over 2 ranks, data checked. Barrier: | all-gather 16 MiB", 1.15e-3],
    ["A layer: 32 sequences, read | 1024 local keys", 13e-6],
    ["A layer: 32 sequences, read | 1024 local keys | step", 58e-6],
    ["A layer: 32 sequences, read | 1024 local keys (2)", 2],
    ["A layer: 32 sequences, read | 1024 local keys | step (2)", 58e-6],
    ["Long contexts | 1 rank", 4e-3],
    ["Decoding | 2 ranks", 4e-3],
    ["Decoding | 2 ranks | steps/s, long", 5e-3],
    ["Decoding | 2 ranks | prefill, long", 2.5],
  ]);
});

test("the interval of equal ratios is a point, that of one pair says nothing, that of noise holds the truth", () => {
  const { ratio, low, high } = pairedRatio([1, 2, 4], [1.1, 2.2, 4.4]);
  for (const number of [ratio, low, high]) expect(number).toBeCloseTo(1.1, 10);
  expect(pairedRatio([1], [2])).toEqual({ ratio: 2, low: 0, high: Number.POSITIVE_INFINITY });
  const noisy = pairedRatio([1, 1, 1, 1, 1], [0.9, 1.1, 1, 0.95, 1.05]);
  expect(noisy.low).toBeLessThan(1);
  expect(noisy.high).toBeGreaterThan(1);
});
