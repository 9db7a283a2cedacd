import { expect, test } from "bun:test";
import fc from "fast-check";
import { Arena } from "./arena.ts";
import { DTYPE_BYTES, DTYPES, type DType } from "./dtype.ts";
import { ArgumentError, HeapExhausted, LockstepError, UseAfterFree } from "./errors.ts";
import { SharedHeap } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";
import type { TensorDescriptor } from "./tensor-descriptor.ts";

const heap = SharedHeap.create(1 << 16);
const bytes = new Uint8Array(heap.buffer);
const tensor = Tensor.from(heap, "f32", [2, 3], [1, 2, 3, 4, 5, 6]);

/** Numbers, and what is none, that are no index, size, stride or offset. */
const BAD = [
  Number.NaN,
  0.5,
  -1,
  -0.5,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  "1",
  1n,
  Symbol("one"),
  null,
  undefined,
  {},
  [],
];
/** Numbers that are too large for any memory. */
const HUGE = [2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 53, 2 ** 53 + 2, 1e308];
const bad = fc.constantFrom<unknown>(...BAD, ...HUGE);
const as = <T>(value: unknown): T => value as T;

/** Expects a typed error, every byte of the heap as it was, and nothing allocated. */
function expectRefused(call: () => unknown, error: abstract new (...args: never[]) => Error = LockstepError): void {
  const before = bytes.slice();
  const free = heap.freeBytes;
  expect(call).toThrow(error as never);
  expect(Buffer.compare(bytes, before)).toBe(0);
  expect(heap.freeBytes).toBe(free);
}

test("at takes as many integers as there are dimensions, each within its dimension", () => {
  expect(tensor.at(1, 2)).toBe(6);
  const good = fc.tuple(fc.nat(1), fc.nat(2)).map((index): unknown[] => index);
  const place = fc.record({ index: good, dim: fc.nat(1), value: bad });
  fc.assert(
    fc.property(place, ({ index, dim, value }) => {
      expectRefused(() => tensor.at(...as<number[]>(index.with(dim, value))), ArgumentError);
    }),
  );
  for (const index of [[], [0], [0, 0, 0], [2, 0], [0, 3]]) expectRefused(() => tensor.at(...index), ArgumentError);
  const scalar = Tensor.from(heap, "f32", [], [7]);
  expect(scalar.at()).toBe(7);
  expectRefused(() => scalar.at(0), ArgumentError);
  scalar.free();
});

test("views take integers within the shape", () => {
  fc.assert(
    fc.property(bad, (value) => {
      const number = as<number>(value);
      const calls: (() => unknown)[] = [
        () => tensor.slice(number, 0, 1),
        () => tensor.slice(0, number, 2),
        () => tensor.slice(0, 0, 2, number),
        () => tensor.select(number, 0),
        () => tensor.select(0, number),
        () => tensor.transpose(number, 0),
        () => tensor.transpose(0, number),
        () => tensor.squeeze(number),
        () => tensor.unsqueeze(number),
        () => tensor.dim(number),
        () => tensor.stride(number),
        () => tensor.reshape([number, 6]),
        () => tensor.reshape(as(number)),
      ];
      // -1 is the last dimension, an undefined step is 1, and a step of any size is one.
      for (const [at, call] of calls.entries()) {
        if (value === -1 && [0, 3, 5, 6, 9, 10].includes(at)) continue;
        if (at === 2 && (value === undefined || HUGE.includes(number))) continue;
        expectRefused(call, ArgumentError);
      }
    }),
  );
  for (const end of BAD) expectRefused(() => tensor.slice(0, 0, as(end)), ArgumentError);
});

test("tensors of bad sizes, dtypes, values or allocators are refused, and take nothing", () => {
  const shapes: unknown[] = [...BAD.filter((value) => !Array.isArray(value)), ...BAD.map((value) => [2, value])];
  for (const shape of [
    ...shapes,
    [2 ** 40, 2 ** 40],
    [0, 2 ** 40, 2 ** 40],
    new Array<number>(2),
    "12",
    new Float32Array([2, 3]),
  ]) {
    expectRefused(() => Tensor.empty(heap, "f32", as(shape)), ArgumentError);
    expectRefused(() => Tensor.zeros(heap, "f32", as(shape)), ArgumentError);
    expectRefused(() => Tensor.from(heap, "f32", as(shape), [1, 2]), ArgumentError);
  }
  for (const size of HUGE.filter(Number.isSafeInteger)) {
    expectRefused(() => Tensor.empty(heap, "u8", [size]), HeapExhausted);
    expectRefused(() => Tensor.zeros(heap, "f32", [size]), LockstepError);
  }
  for (const dtype of ["f64", "F32", "", "toString", "__proto__", 4, null, undefined, {}]) {
    expectRefused(() => Tensor.empty(heap, as(dtype), [2]), ArgumentError);
  }
  for (const allocator of [undefined, null, {}, { allocate: () => 128 }, 4, heap.memory]) {
    expectRefused(() => Tensor.empty(as(allocator), "f32", [2]), ArgumentError);
    expectRefused(() => tensor.clone(as(allocator)), ArgumentError);
    expectRefused(() => new Arena(as(allocator), 128), ArgumentError);
  }
  for (const values of [
    [1],
    [1, 2, 3],
    ["1", 2],
    [1, null],
    new Array<number>(2),
    4,
    "12",
    null,
    undefined,
    {},
    new BigInt64Array(2),
  ]) {
    expectRefused(() => Tensor.from(heap, "f32", [2], as(values)), ArgumentError);
    expectRefused(() => tensor.slice(0, 0, 1).slice(1, 0, 2).set(as(values)), ArgumentError);
  }
  for (const value of ["1", null, undefined, {}, 1n]) expectRefused(() => tensor.fill(as(value)), ArgumentError);
  for (const source of [null, undefined, {}, [1, 2, 3, 4, 5, 6]]) {
    expectRefused(() => tensor.copyFrom(as(source)), ArgumentError);
  }
});

test("heaps, ranges and allocations of bad sizes are refused", () => {
  for (const size of [...BAD, 0, 2 ** 32, 2 ** 32 - 65535, 2 ** 53]) {
    expectRefused(() => SharedHeap.create(as(size)), ArgumentError);
  }
  for (const size of BAD) expectRefused(() => heap.allocate(as(size)), ArgumentError);
  for (const size of HUGE) expectRefused(() => heap.allocate(size), LockstepError);
  for (const size of [...BAD, ...HUGE]) {
    expectRefused(() => SharedHeap.range(heap.id, heap.memory, as(size), 128), ArgumentError);
    expectRefused(() => SharedHeap.range(heap.id, heap.memory, 128, as(size)), ArgumentError);
  }
  expectRefused(() => SharedHeap.range(heap.id, as({ buffer: new ArrayBuffer(4096) }), 128, 128), ArgumentError);
  const unshared = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  expectRefused(() => SharedHeap.range(heap.id, unshared, 128, 128), ArgumentError);
  expectRefused(() => SharedHeap.range(as(4), heap.memory, 128, 128), ArgumentError);
});

test("a descriptor describes elements within the memory, or is refused", () => {
  const good = tensor.transpose(0, 1).descriptor;
  const number = fc.oneof(bad, fc.nat(20), fc.integer({ min: 65500, max: 65560 }));
  const list = fc.oneof(bad, fc.array(number, { maxLength: 4 }), fc.array(fc.nat(5), { minLength: 2, maxLength: 2 }));
  const change = fc.oneof(
    fc.record({ field: fc.constantFrom("shape", "strides"), value: list }),
    fc.record({ field: fc.constant("byteOffset"), value: number }),
    fc.record({
      field: fc.constant("dtype"),
      value: fc.oneof(bad, fc.constantFrom<unknown>(...DTYPES, "F32", "toString")),
    }),
    fc.record({ field: fc.constant("heapId"), value: bad }),
  );
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 2 }), (changes) => {
      const descriptor = { ...good, ...Object.fromEntries(changes.map(({ field, value }) => [field, value])) };
      let made: Tensor;
      try {
        made = Tensor.fromDescriptor(as<TensorDescriptor>(descriptor), heap);
      } catch (error) {
        expect(error).toBeInstanceOf(ArgumentError);
        return;
      }
      expect(made.byteOffset % DTYPE_BYTES[made.dtype]).toBe(0);
      expect(made.elements.byteOffset + made.elements.byteLength).toBeLessThanOrEqual(heap.buffer.byteLength);
      expect(made.toNumbers().length).toBe(made.size);
    }),
    { numRuns: 2000, seed: 3 },
  );
  for (const descriptor of [
    null,
    undefined,
    4,
    "f32",
    {},
    [],
    { ...good, strides: [2] },
    { ...good, strides: [-3, 1] },
  ]) {
    expectRefused(() => Tensor.fromDescriptor(as(descriptor), heap), ArgumentError);
  }
  expectRefused(() => Tensor.fromDescriptor({ ...good, byteOffset: good.byteOffset + 1 }, heap), ArgumentError);
  expectRefused(
    () => Tensor.fromDescriptor({ ...good, shape: [2 ** 31, 2 ** 31], strides: [0, 0] }, heap),
    ArgumentError,
  );
  expectRefused(() => Tensor.fromDescriptor(good, as({ id: heap.id, buffer: heap.buffer })), ArgumentError);
});

test("a freed tensor, its views and its descriptor are refused wherever elements would be used", () => {
  const freed = Tensor.from(heap, "f32", [2, 3], [1, 2, 3, 4, 5, 6]);
  const view = freed.slice(0, 0, 1);
  expect([freed.isFreed, view.isFreed]).toEqual([false, false]);
  freed.free();
  const other = Tensor.from(heap, "f32", [2, 3], [7, 7, 7, 7, 7, 7]);
  for (const used of [freed, view, freed.shape.length === 2 ? view : freed]) {
    expect(used.isFreed).toBe(true);
    const calls: (() => unknown)[] = [
      () => used.elements,
      () => used.f32,
      () => used.bytes,
      () => used.descriptor,
      () => used.at(0, 0),
      () => used.toNumbers(),
      () => used.fill(1),
      () => used.set(new Float32Array(used.size)),
      () => used.copyFrom(other.slice(0, 0, used.dim(0))),
      () => other.slice(0, 0, used.dim(0)).copyFrom(used),
      () => used.clone(heap),
      () => used.contiguous(heap),
      () => used.slice(0, 0, 1),
      () => used.select(0, 0),
      () => used.reshape([used.size]),
      () => used.transpose(0, 1),
      () => used.unsqueeze(0),
      () => used.assertUsable("test"),
    ];
    for (const call of calls) expectRefused(call, UseAfterFree);
  }
  expect([...other.toNumbers()]).toEqual([7, 7, 7, 7, 7, 7]);
  other.free();
});

test("views without elements work wherever they lie, also at the very end of the memory", () => {
  const small = SharedHeap.create(65536);
  const dims = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 3 });
  const cuts = fc.array(fc.record({ dim: fc.nat(2), start: fc.nat(3), length: fc.nat(3) }), { maxLength: 4 });
  fc.assert(
    fc.property(dims, cuts, fc.constantFrom<DType>("f32", "bf16", "u8"), (shape, list, dtype) => {
      const length = shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype]);
      const strides = shape.map((_, dim) =>
        shape.slice(dim + 1).reduce((product, size) => product * Math.max(1, size), 1),
      );
      const byteOffset = small.buffer.byteLength - length;
      let view = Tensor.fromDescriptor({ dtype, shape, strides, heapId: small.id, byteOffset }, small);
      for (const { dim, start, length: wanted } of list) {
        const at = dim % view.rank;
        const size = view.dim(at);
        const from = Math.min(start, size);
        view = view.slice(at, from, Math.min(size, from + wanted));
      }
      expect(view.elements.length).toBeGreaterThanOrEqual(view.size);
      expect(view.toNumbers().length).toBe(view.size);
      expect(Tensor.fromDescriptor(view.descriptor, small).fill(1).size).toBe(view.size);
      const copy = view.clone(small);
      view.copyFrom(copy);
      copy.free();
    }),
    { numRuns: 500, seed: 5 },
  );
});

test("a copy between overlapping views copies what was there before", () => {
  const row = Tensor.from(heap, "f32", [6], [1, 2, 3, 4, 5, 6]);
  row.slice(0, 1, 6).copyFrom(row.slice(0, 0, 5));
  expect([...row.toNumbers()]).toEqual([1, 1, 2, 3, 4, 5]);
  const square = Tensor.from(heap, "f32", [3, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  square.copyFrom(square.transpose(0, 1));
  expect([...square.toNumbers()]).toEqual([1, 4, 7, 2, 5, 8, 3, 6, 9]);
  square.transpose(0, 1).set(square.f32);
  expect([...square.toNumbers()]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  for (const made of [row, square]) made.free();
});
