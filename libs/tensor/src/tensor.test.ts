import { expect, test } from "bun:test";
import fc from "fast-check";
import { DTYPES } from "./dtype.ts";
import { ArgumentError, InvalidFree } from "./errors.ts";
import { SharedHeap } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

const heap = SharedHeap.create(16 << 20);
const counting = (shape: number[], dtype: (typeof DTYPES)[number] = "f32"): Tensor => {
  const size = shape.reduce((product, value) => product * value, 1);
  return Tensor.from(
    heap,
    dtype,
    shape,
    Array.from({ length: size }, (_, index) => index % 200),
  );
};

test.each([...DTYPES])("%s keeps small integers exactly, through views and copies", (dtype) => {
  const tensor = counting([3, 5, 7], dtype);
  expect(tensor.at(2, 4, 6)).toBe(104);
  const view = tensor.transpose(0, 2).slice(1, 1, 5, 2);
  expect(view.shape).toEqual([7, 2, 3]);
  expect(view.at(6, 1, 2)).toBe(tensor.at(2, 3, 6));
  const copy = view.contiguous(heap);
  expect(copy.isContiguous).toBe(true);
  expect([...copy.toNumbers()]).toEqual([...view.toNumbers()]);
  copy.free();
  tensor.free();
});

test("views agree with index arithmetic for any shape", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 4 }),
      fc.nat(3),
      fc.nat(3),
      (shape, a, b) => {
        const tensor = counting(shape);
        const first = a % shape.length;
        const second = b % shape.length;
        const back = tensor.transpose(first, second).transpose(first, second);
        expect([...back.toNumbers()]).toEqual([...tensor.toNumbers()]);
        const size = tensor.dim(first);
        const parts = [tensor.slice(first, 0, size >> 1), tensor.slice(first, size >> 1, size)];
        expect(parts.reduce((sum, part) => sum + part.size, 0)).toBe(tensor.size);
        const target = Tensor.zeros(heap, "f32", shape);
        target.slice(first, 0, size >> 1).copyFrom(parts[0] ?? tensor);
        target.slice(first, size >> 1, size).copyFrom(parts[1] ?? tensor);
        expect([...target.toNumbers()]).toEqual([...tensor.toNumbers()]);
        target.free();
        tensor.free();
      },
    ),
  );
});

test("squeeze, unsqueeze, select and reshape", () => {
  const tensor = counting([2, 1, 6]);
  expect(tensor.squeeze(1).shape).toEqual([2, 6]);
  expect(tensor.unsqueeze(3).shape).toEqual([2, 1, 6, 1]);
  expect([...tensor.select(0, 1).toNumbers()]).toEqual([6, 7, 8, 9, 10, 11]);
  expect(tensor.reshape([3, 4]).at(2, 3)).toBe(11);
  expect(() => tensor.squeeze(0)).toThrow(ArgumentError);
  expect(() => tensor.reshape([5])).toThrow(ArgumentError);
  expect(() => tensor.transpose(0, 2).reshape([12])).toThrow("contiguous(allocator)");
  expect(() => tensor.slice(0, 1, 3)).toThrow(ArgumentError);
  expect(() => tensor.at(0, 0)).toThrow(ArgumentError);
});

test("a descriptor crosses to another holder of the memory, and to no other memory", () => {
  const tensor = counting([4, 4]).transpose(0, 1);
  const descriptor = structuredClone(tensor.descriptor);
  const peer = SharedHeap.range(heap.id, heap.memory, 128, 128);
  const same = Tensor.fromDescriptor(descriptor, peer);
  same.fill(3);
  expect(tensor.at(2, 1)).toBe(3);
  expect(() => Tensor.fromDescriptor(descriptor, SharedHeap.create(65536))).toThrow(ArgumentError);
  expect(() => Tensor.fromDescriptor({ ...descriptor, byteOffset: 16 << 20 }, peer)).toThrow(ArgumentError);
});

test("freeing: once, and not through a view", () => {
  const tensor = counting([8]);
  expect(() => tensor.slice(0, 0, 4).free()).toThrow(InvalidFree);
  tensor.free();
  expect(() => tensor.free()).toThrow(InvalidFree);
});

test("copies between dtypes round", () => {
  const source = Tensor.from(heap, "f32", [3], [1.0001, -2.5, 1e6]);
  const half = Tensor.empty(heap, "f16", [3]).copyFrom(source);
  expect([...half.toNumbers()]).toEqual([1, -2.5, Number.POSITIVE_INFINITY]);
});

test("typed access refuses other dtypes and strided views", () => {
  const tensor = counting([2, 3]);
  expect(tensor.f32.length).toBe(6);
  expect(() => tensor.i32).toThrow(ArgumentError);
  expect(() => tensor.transpose(0, 1).f32).toThrow(ArgumentError);
});

test("a strided copy keeps every bit of a NaN", () => {
  const source = Tensor.zeros(heap, "f32", [2, 3]);
  new Uint32Array(heap.buffer, source.byteOffset, 6).set([0x7fc01234, 0xffc00001, 0x7f800001, 1, 2, 3]);
  const copy = Tensor.zeros(heap, "f32", [3, 2]).transpose(0, 1).copyFrom(source);
  const back = copy.clone(heap);
  expect([...back.bytes]).toEqual([...source.bytes]);
});

test("a heap of another copy of the package is told from something else", () => {
  class SharedHeap {
    readonly heap = this;
    allocate(): number {
      return 128;
    }
  }
  const another = new SharedHeap() as unknown as Parameters<typeof Tensor.empty>[0];
  expect(() => Tensor.empty(another, "f32", [1])).toThrow("another copy of @lockstep/tensor");
  expect(() => Tensor.empty({} as typeof another, "f32", [1])).not.toThrow("another copy");
});
