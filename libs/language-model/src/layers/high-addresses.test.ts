// Weights at the very end of the largest memory: addresses above 2 GiB, and not a byte beyond the last.
import { expect, test } from "bun:test";
import { type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import { Layers } from "./layers.ts";
import type { Weight } from "./weight.ts";

const INS = 33;
const heap = SharedHeap.create(65535 * 65536);
const layers = Layers.open(heap, { maxTokens: 4, maxInputs: INS });
const x = Tensor.from(
  heap,
  "f32",
  [4, INS],
  Float64Array.from({ length: 4 * INS }, (_, index) => Math.sin(index)),
);

/** Weights, the same at every place; rows of them fill cache lines, so that the last one ends the memory. */
function weights(dtype: DType, outs: number): Weight {
  const numbers = Float64Array.from({ length: outs * INS }, (_, index) => Math.cos(3 * index));
  if (dtype !== "i8") {
    const values = Tensor.from(heap, dtype, [outs, INS], numbers);
    return dtype === "f16" ? { values, isFinite: true } : { values };
  }
  const stored = Tensor.from(heap, "f32", [outs, INS], numbers);
  const scales = Tensor.empty(heap, "f32", [outs, 2]);
  const weight = { values: Tensor.empty(heap, "i8", [outs, INS]), scales };
  expect(layers.quantise(stored, weight)).toBe(-1);
  return weight;
}

test.each([
  ["f32", 32],
  ["bf16", 64],
  ["f16", 64],
  ["i8", 128],
] as const)("%s", (dtype, outs) => {
  const low = weights(dtype, outs);
  const bytes = low.values.byteLength;
  expect(bytes % 128).toBe(0);
  const ids = Tensor.from(heap, "i32", [1], [outs - 1]);
  const results = [0, 1].map(() => ({
    y: Tensor.empty(heap, "f32", [4, outs]),
    row: Tensor.empty(heap, "f32", [1, INS]),
  }));
  // Nobody touches it: it takes no memory.
  const between = Tensor.empty(heap, "u8", [heap.largestFreeBytes - bytes]);
  const values = Tensor.empty(heap, low.values.dtype, [outs, INS]);
  values.copyFrom(low.values);
  expect(values.byteEnd).toBe(heap.buffer.byteLength);
  for (const [index, weight] of [low, { ...low, values }].entries()) {
    const { y, row } = results[index] ?? expect.unreachable();
    for (const tokens of [1, 4]) layers.linear(x.slice(0, 0, tokens), weight, y.slice(0, 0, tokens));
    layers.embed(ids, weight, 0, row);
  }
  expect(results[1]?.y.f32).toEqual(results[0]?.y.f32 ?? expect.unreachable());
  expect(results[1]?.row.f32).toEqual(results[0]?.row.f32 ?? expect.unreachable());
  expect(results[0]?.y.f32.some((value) => value !== 0)).toBe(true);
  for (const tensor of [between, values]) tensor.free();
});
