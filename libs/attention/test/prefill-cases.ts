// What the tests of prefill store and ask.
import type { FeatureCase } from "./feature-cases.ts";

/** Steps: prompts, more of some of them, then a token each. */
export const PREFILL_STEPS = [
  [23, 0, 9, 1],
  [6, 17, 0, 3],
  [1, 1, 2, 1],
];

export const PREFILL_CASES: readonly FeatureCase[] = [
  {
    name: "GQA with window, sinks and softcap",
    steps: PREFILL_STEPS,
    queryHeads: 8,
    kvHeads: 2,
    keyDim: 12,
    valueDim: 10,
    blockSize: 4,
    sinks: [0.5, -2, 3, 0, 1, -1, 2, -8],
    options: { interleave: 2, window: 9, softcap: 4 },
  },
  {
    name: "MLA in f16",
    steps: PREFILL_STEPS,
    queryHeads: 8,
    kvHeads: 1,
    keyDim: 12,
    valueDim: 10,
    kvDtype: "f16",
    blockSize: 4,
    options: { mla: true },
  },
  {
    name: "f8e4m3 KV with a scale per head",
    steps: PREFILL_STEPS,
    queryHeads: 8,
    kvHeads: 2,
    keyDim: 12,
    valueDim: 10,
    kvDtype: "f8e4m3",
    blockSize: 4,
    options: { kvScales: { key: [0.02, 0.05], value: [0.01, 3] }, interleave: 4 },
  },
  {
    name: "i8 KV with a scale a token",
    steps: PREFILL_STEPS,
    queryHeads: 8,
    kvHeads: 2,
    keyDim: 12,
    valueDim: 10,
    kvDtype: "i8",
    blockSize: 4,
    options: { window: 9 },
  },
  {
    name: "MLA in f8e4m3 with a scale a token",
    steps: PREFILL_STEPS,
    queryHeads: 8,
    kvHeads: 1,
    keyDim: 12,
    valueDim: 10,
    kvDtype: "f8e4m3",
    blockSize: 4,
    options: { mla: true, interleave: 2 },
  },
];
