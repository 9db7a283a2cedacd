import { expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { DTYPE_BYTES, DTYPES } from "./dtype.ts";
import { isViewAt, overlaps, overlapsItself } from "./overlap.ts";
import { forEachOffset } from "./shape.ts";
import { SharedHeap } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(1 << 20);
const ROOM_BYTES = 4096;
const room = Tensor.empty(heap, "u8", [ROOM_BYTES]);

/** Every byte a view touches. */
function bytesOf(tensor: Tensor): Set<number> {
  const bytes = new Set<number>();
  const width = DTYPE_BYTES[tensor.dtype];
  forEachOffset(tensor.shape, tensor.strides, (offset) => {
    for (let byte = 0; byte < width; byte++) bytes.add(tensor.byteOffset + offset * width + byte);
  });
  return bytes;
}

const view = fc
  .record({
    dtype: fc.constantFrom(...DTYPES),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
    strides: fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 3, maxLength: 3 }),
    start: fc.nat({ max: 60 }),
  })
  .map(({ dtype, shape, strides, start }) =>
    Tensor.fromDescriptor(
      {
        dtype,
        shape,
        strides: strides.slice(0, shape.length),
        heapId: heap.id,
        byteOffset: room.byteOffset + start * DTYPE_BYTES[dtype],
      },
      heap,
    ),
  );

test("overlaps says whether two views have a byte in common, for any strides", () => {
  let common = 0;
  fc.assert(
    fc.property(view, view, (a, b) => {
      const others = bytesOf(b);
      const share = [...bytesOf(a)].some((byte) => others.has(byte));
      if (share) common++;
      expect(overlaps(a, b)).toBe(share);
    }),
    { numRuns: 3000 },
  );
  expect(common).toBeGreaterThan(100);
});

test("interleaved columns of one matrix do not overlap", () => {
  const matrix = Tensor.zeros(heap, "f32", [64, 96]);
  expect(overlaps(matrix.slice(1, 0, 48), matrix.slice(1, 48, 96))).toBe(false);
  expect(overlaps(matrix.slice(1, 0, 49), matrix.slice(1, 48, 96))).toBe(true);
  expect(overlaps(matrix.slice(1, 0, 96, 2), matrix.slice(1, 1, 96, 2))).toBe(false);
  matrix.free();
});

test("isViewAt recognises exactly a chunk", () => {
  const whole = Tensor.zeros(heap, "f32", [4, 6]);
  const chunk = whole.slice(1, 2, 4);
  expect(isViewAt(chunk, whole, 2, [4, 2])).toBe(true);
  expect(isViewAt(chunk, whole, 3, [4, 2])).toBe(false);
  expect(isViewAt(chunk, whole, 2, [4, 3])).toBe(false);
  whole.free();
});

test("interleaved caches of many blocks do not overlap", () => {
  const large = SharedHeap.create(4 << 20);
  const both = Tensor.empty(large, "u8", [20_000, 2, 4, 8]);
  expect(overlaps(both.select(1, 0), both.select(1, 1))).toBe(false);
  expect(overlaps(both.select(1, 0), both.select(1, 0).slice(0, 19_999, 20_000))).toBe(true);
});

test("overlapsItself finds every view with two elements at one place, and lets slices and transposes pass", () => {
  fc.assert(
    fc.property(view, (tensor) => {
      const places = new Set<number>();
      forEachOffset(tensor.shape, tensor.strides, (offset) => places.add(offset));
      if (places.size < tensor.size) expect(overlapsItself(tensor)).toBe(true);
    }),
    { numRuns: 3000 },
  );
  const matrix = Tensor.zeros(heap, "f32", [4, 6, 2]);
  for (const sliced of [
    matrix,
    matrix.transpose(0, 2),
    matrix.slice(1, 1, 6, 2),
    matrix.select(2, 1).transpose(0, 1),
  ]) {
    expect(overlapsItself(sliced)).toBe(false);
  }
  expect(overlapsItself(Tensor.fromDescriptor({ ...matrix.descriptor, strides: [12, 2, 0] }, heap))).toBe(true);
  matrix.free();
});
