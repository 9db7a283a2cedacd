import { expect, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { KvCalibration, nonFiniteKv } from "./kv-calibration.ts";

const heap = SharedHeap.create(65536);
const idle = { begin: () => [], forward: async () => {}, end: () => {}, cancel: () => {} };

test("a scale for each layer and KV head, from the largest magnitudes, rounded up to three bits", async () => {
  const calibration = new KvCalibration(2, 2);
  const step = calibration.observe(idle);
  const rows = (...values: number[]): Tensor => Tensor.from(heap, "f32", [values.length / 4, 2, 2], values);
  await step.forward(0, rows(0, 0, 0, 0), rows(1, -224, 0, 3, 100, 5, -14, 1), rows(1, 1, 7, 0), rows(0, 0, 0, 0));
  await step.forward(0, rows(0, 0, 0, 0), rows(2, 2, 1, 1), rows(-4, 1, 1, 1), rows(0, 0, 0, 0));
  const [first, second] = calibration.scales("f8e4m3");
  // Twice the largest over 448: 224 -> 1, 14 -> 1/16, 4 -> 1/56 rounded up, 7 -> 1/32.
  expect(first).toEqual({ key: [1, 1 / 16], value: [5 / 256, 1 / 32] });
  expect(second).toEqual({ key: [1, 1], value: [1, 1] });
  const [i8] = calibration.scales("i8");
  const keys = i8?.key;
  if (keys === undefined || typeof keys === "number") expect.unreachable();
  for (const [head, most] of [224, 14].entries()) {
    const scale = keys[head] ?? 0;
    expect(scale * 127).toBeGreaterThanOrEqual(most * 1.125);
    expect(scale * 127).toBeLessThan(most * 1.125 * 1.25);
  }
});

test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
  "%p ends in an error, not a search",
  async (bad) => {
    const calibration = new KvCalibration(3, 1);
    const step = calibration.observe(idle);
    const rows = (value: number): Tensor => Tensor.from(heap, "f32", [2, 1, 1], [value, 1]);
    await step.forward(0, rows(1), rows(1), rows(2), rows(0));
    expect(calibration.firstNonFinite).toBe(Number.POSITIVE_INFINITY);
    await step.forward(1, rows(1), rows(1), rows(bad), rows(0));
    await step.forward(2, rows(1), rows(bad), rows(bad), rows(0));
    expect(calibration.firstNonFinite).toBe(3);
    expect(nonFiniteKv("folder", 3).message).toContain("model.layers.1.self_attn.v_proj.weight");
    expect(calibration.scales("f8e4m3")[1]?.value).toEqual([1]);
  },
);
