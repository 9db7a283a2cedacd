import { afterAll, expect, test } from "bun:test";
import { openBackend } from "@lockstep/kernels";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { packSeq, unpackSeq } from "./pack-seq.ts";
import { outcomeOf } from "../../../tests/outcome-of.ts";

const heap = SharedHeap.create(8 << 20);
const backend = await openBackend("wasm", { heap });
afterAll(() => backend.close());

const rows = Tensor.from(heap, "f32", [6, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
const NEGATIVE = Number.NEGATIVE_INFINITY;

test("packs with -inf by default and unpacks to the rows it took", async () => {
  const packed = await packSeq(backend, rows, [2, 0, 3]);
  expect(packed.shape).toEqual([3, 3, 2]);
  const empty = [NEGATIVE, NEGATIVE, NEGATIVE, NEGATIVE, NEGATIVE, NEGATIVE];
  expect([...packed.toNumbers()]).toEqual([0, 1, 2, 3, NEGATIVE, NEGATIVE, ...empty, 4, 5, 6, 7, 8, 9]);
  const unpacked = await unpackSeq(backend, packed, [2, 0, 3]);
  expect([...unpacked.toNumbers()]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("takes lengths as an i32 tensor, a pad value, a target, and trailing dimensions", async () => {
  const lengths = Tensor.from(heap, "i32", [2], [1, 2]);
  const x = rows.reshape([3, 2, 2]);
  const out = Tensor.empty(heap, "f32", [2, 2, 2, 2]);
  const packed = await packSeq(backend, x, lengths, { padValue: -1.5, out, blockT: 1, blockD: 3 });
  expect(packed).toBe(out);
  expect([...packed.toNumbers()]).toEqual([0, 1, 2, 3, -1.5, -1.5, -1.5, -1.5, 4, 5, 6, 7, 8, 9, 10, 11]);
});

test("no sequences make an empty batch", async () => {
  expect((await packSeq(backend, rows, [])).shape).toEqual([0, 0, 2]);
});

test.each([
  ["a negative length", () => packSeq(backend, rows, [2, -1])],
  ["a length that is no integer", () => packSeq(backend, rows, [1.5])],
  ["more rows than there are", () => packSeq(backend, rows, [4, 3])],
  ["far more rows than there are", () => packSeq(backend, rows, [2 ** 40])],
  [
    "an infinite pad on integers",
    () => packSeq(backend, Tensor.zeros(heap, "u8", [2, 2]), [2], { padValue: NEGATIVE }),
  ],
  ["a length beyond Lmax", () => unpackSeq(backend, rows.reshape([2, 3, 2]), [3, 4])],
  ["lengths of another batch", () => unpackSeq(backend, rows.reshape([2, 3, 2]), [3])],
  ["lengths in f32", () => packSeq(backend, rows, Tensor.zeros(heap, "f32", [2]))],
])("refuses %s and keeps no memory", async (_, run) => {
  const used = heap.usedBytes;
  expect(await outcomeOf(run())).toThrow(ArgumentError);
  await Promise.resolve();
  expect(heap.usedBytes - used).toBeLessThan(1024);
});
