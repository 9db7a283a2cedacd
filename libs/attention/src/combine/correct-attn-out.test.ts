import { afterAll, describe, expect, test } from "bun:test";
import { openBackend } from "@lockstep/kernels";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { dcpCorrectAttnOut } from "./correct-attn-out.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

const heap = SharedHeap.create(8 << 20);
const backend = await openBackend("wasm", { heap });
afterAll(() => backend.close());

const [ranks, batch, heads, dim] = [3, 2, 5, 7];
const outValues = Array.from({ length: batch * heads * dim }, (_, index) => Math.sin(index));
const lseValues = Array.from({ length: ranks * batch * heads }, (_, index) => 3 * Math.cos(index));

/** The whole computation in float64. */
function expected(rank: number): { out: number[]; lse: number[] } {
  const lse: number[] = [];
  const out: number[] = [];
  for (let row = 0; row < batch * heads; row++) {
    const all = Array.from({ length: ranks }, (_, index) => lseValues[index * batch * heads + row] ?? 0);
    const total = Math.log(all.reduce((sum, value) => sum + Math.exp(value), 0));
    lse.push(total);
    const factor = Math.exp((all[rank] ?? 0) - total);
    for (let d = 0; d < dim; d++) out.push((outValues[row * dim + d] ?? 0) * factor);
  }
  return { out, lse };
}

function expectClose(actual: Tensor, wanted: readonly number[]): void {
  const numbers = actual.toNumbers();
  expect(numbers.length).toBe(wanted.length);
  for (const [index, want] of wanted.entries()) expect(numbers[index]).toBeCloseTo(want, 5);
}

const makeOut = (shape: number[]): Tensor => Tensor.from(heap, "f32", shape, outValues);
const makeLses = (shape: number[]): Tensor => Tensor.from(heap, "f32", shape, lseValues);

describe("accepts every shape of the original", () => {
  const outShapes = [
    [batch, heads, dim],
    [batch, 1, heads, dim],
  ];
  const lseShapes = [
    [ranks, batch, heads],
    [ranks, batch, heads, 1],
    [ranks, 1, batch, heads],
    [ranks, batch, 1, heads],
  ];
  test.each(outShapes.flatMap((out) => lseShapes.map((lses) => [out, lses] as const)))(
    "out %p, lses %p",
    async (outShape, lseShape) => {
      const out = makeOut([...outShape]);
      const result = await dcpCorrectAttnOut(backend, out, makeLses([...lseShape]), 1);
      expect(result.out.shape).toEqual([batch, heads, dim]);
      expect(result.lse.shape).toEqual([batch, heads]);
      expectClose(result.out, expected(1).out);
      expectClose(result.lse, expected(1).lse);
      expect(result.out.byteOffset).toBe(out.byteOffset);
    },
  );
});

test("strided views give the numbers of their contiguous copies", async () => {
  const wide = Tensor.empty(heap, "f32", [heads, batch, 2 * dim]).fill(Number.NaN);
  const out = wide.transpose(0, 1).slice(2, 1, 2 * dim, 2);
  out.copyFrom(makeOut([batch, heads, dim]));
  const lses = Tensor.empty(heap, "f32", [batch, heads, ranks]).transpose(0, 2).transpose(1, 2);
  lses.copyFrom(makeLses([ranks, batch, heads]));
  const result = await dcpCorrectAttnOut(backend, out, lses, 2);
  expectClose(result.out, expected(2).out);
  expectClose(result.lse, expected(2).lse);
  expect(wide.at(0, 0, 0)).toBeNaN();
});

test("writes into another tensor and leaves the input alone", async () => {
  const out = makeOut([batch, heads, dim]);
  const corrected = Tensor.zeros(heap, "f32", [batch, heads, dim]);
  const result = await dcpCorrectAttnOut(backend, out, makeLses([ranks, batch, heads]), 0, { out: corrected });
  expect(result.out).toBe(corrected);
  expectClose(out, outValues);
  expectClose(corrected, expected(0).out);
});

test.each([
  ["out of two dimensions", [batch, heads * dim], [ranks, batch, heads], 0],
  ["out with a second dimension that is not 1", [batch, heads, dim, 1], [ranks, batch, heads], 0],
  ["LSEs of another batch", [batch, heads, dim], [ranks, heads, batch], 0],
  ["LSEs of four dimensions, none of size 1", [batch, heads, dim], [ranks, 1, heads, batch], 0],
  ["a rank beyond the LSEs", [batch, heads, dim], [ranks, batch, heads], ranks],
  ["a negative rank", [batch, heads, dim], [ranks, batch, heads], -1],
])("refuses %s, and writes nothing", async (_, outShape, lseShape, rank) => {
  const out = makeOut(outShape);
  const used = heap.usedBytes;
  expect(await outcomeOf(dcpCorrectAttnOut(backend, out, makeLses(lseShape), rank))).toThrow(ArgumentError);
  await Promise.resolve();
  expectClose(out, outValues);
  expect(heap.usedBytes - used).toBeLessThan(1024);
});
