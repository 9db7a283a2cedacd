// Operands that are put together when an op reads them: by heap parts, parts on the GPU, and both.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { DTYPE_BYTES, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import type { Operand } from "../operand.ts";
import { openWebgpuBackend } from "../backends/webgpu-backend.ts";
import { countBytes } from "../testing/count-bytes.ts";
import { countCalls } from "../testing/count-calls.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backend = await openWebgpuBackend({ heap, adapter: "software" });
afterAll(() => backend.close());

type Place = "heap" | "strided heap" | "GPU" | "strided GPU";

const ramp = (count: number, first: number): number[] => Array.from({ length: count }, (_, at) => (first + at) % 97);

/** A part [rows, heads, dim] whose elements are those of `of` from head `start` on. */
function partOf(of: Tensor, start: number, end: number, place: Place): Operand {
  const part = of.slice(1, start, end);
  if (place === "strided heap") return part;
  if (place === "heap") return part.clone(heap);
  const whole = place === "GPU" ? part.clone(heap) : of;
  const gpu = backend.empty(whole.dtype, whole.shape);
  void backend.upload(whole, gpu);
  return place === "GPU" ? gpu : gpu.slice(1, start, end);
}

/** What packSeq reads of [rows, heads, dim] as one sequence. */
async function readBack(joined: Operand): Promise<Tensor> {
  const out = Tensor.zeros(heap, joined.dtype, [1, ...joined.shape]);
  await backend.packSeq({ x: joined, lengths: [joined.shape[0] ?? 0], out });
  return out;
}

const PLACES: readonly (readonly Place[])[] = [
  ["heap", "heap", "heap"],
  ["strided heap", "heap", "strided heap"],
  ["heap", "GPU", "heap"],
  ["GPU", "strided heap", "heap"],
  ["heap", "heap", "GPU"],
  ["GPU", "GPU", "GPU"],
  ["strided heap", "strided GPU", "heap"],
];
/** Small ones that are gathered at once, and large ones, which are copied to where they go up from. */
const SHAPES: readonly (readonly [rows: number, dim: number])[] = [
  [1, 8],
  [3, 5],
  [4, 16],
  [40, 1024],
];

test.each(["f32", "f16", "f8e4m3"] as const)("%s parts of any place are read side by side", async (dtype: DType) => {
  for (const [rows, dim] of SHAPES) {
    const borders = [0, 2, 5, 6];
    const of = Tensor.from(heap, dtype, [rows, 6, dim], ramp(rows * 6 * dim, 3));
    for (const places of PLACES) {
      const parts = places.map((place, index) => partOf(of, borders[index] ?? 0, borders[index + 1] ?? 0, place));
      const joined = backend.join?.(parts) ?? of;
      expect(joined.shape).toEqual([rows, 6, dim]);
      expect([places, (await readBack(joined)).bytes]).toEqual([places, of.bytes]);
      if (rows < 3) continue;
      const some = await readBack(joined.slice(0, 1, 3));
      expect([places, some.bytes]).toEqual([places, of.slice(0, 1, 3).clone(heap).bytes]);
    }
  }
});

test("only what the heap has goes up, in the submission that reads it, and nothing is made anew", async () => {
  const [rows, dim] = [8, 64];
  const of = Tensor.from(heap, "f32", [rows, 6, dim], ramp(rows * 6 * dim, 1));
  for (const [places, heads] of [
    [["heap", "GPU", "heap"], 3],
    [["heap", "heap", "heap"], 6],
  ] as const) {
    const parts = places.map((place, index) => partOf(of, [0, 2, 5][index] ?? 0, [2, 5, 6][index] ?? 0, place));
    const out = Tensor.zeros(heap, "f32", [1, rows, 6, dim]);
    const run = async (): Promise<void> => {
      await backend.packSeq({ x: backend.join?.(parts) ?? of, lengths: [rows], out });
    };
    await run();
    const calls = await countCalls(run);
    expect(calls).toMatchObject({ submit: 1, writeBuffer: 1, mapAsync: 1, createBuffer: 0, createBindGroup: 0 });
    const up = rows * heads * dim * DTYPE_BYTES.f32;
    const bytes = await countBytes(run);
    expect(bytes.up).toBeGreaterThanOrEqual(up);
    // Beside it parameters, and what regions are rounded up by.
    expect(bytes.up).toBeLessThan(up + up / 4 + 8 * 256);
  }
});

test("what does not fit together, freed parts, other views and results are refused", async () => {
  const part = Tensor.zeros(heap, "f32", [2, 3, 4]);
  const join = (...parts: Operand[]): Operand => backend.join?.(parts) ?? part;
  expect(() => join()).toThrow("one or more");
  expect(() => join(part, Tensor.zeros(heap, "f32", [3, 3, 4]))).toThrow("parts[1]");
  expect(() => join(part, Tensor.zeros(heap, "f16", [2, 3, 4]))).toThrow("parts[1]");
  expect(() => join(part, Tensor.zeros(heap, "f32", [2, 3]))).toThrow("parts[1]");
  expect(() => join(part, backend.empty("f32", [2, 3, 8]).slice(2, 0, 4))).toThrow("without gaps");
  const out = Tensor.zeros(heap, "f32", [1, 2, 6, 4]);
  const joined = join(part, part);
  expect(() =>
    backend.packSeq({ x: joined.slice(1, 0, 2), lengths: [2], out: out.slice(2, 0, 2).clone(heap) }),
  ).toThrow("GPU");
  expect(() => backend.packSeq({ x: out.slice(0, 0, 1).reshape([2, 6, 4]), lengths: [2], out: joined })).toThrow();
  const freed = Tensor.zeros(heap, "f32", [2, 3, 4]);
  const withFreed = join(part, freed);
  freed.free();
  expect(() => backend.packSeq({ x: withFreed, lengths: [2], out })).toThrow("freed");
  await backend.packSeq({ x: joined, lengths: [2], out });
});
