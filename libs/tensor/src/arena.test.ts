import { expect, test } from "bun:test";
import fc from "fast-check";
import { Arena } from "./arena.ts";
import { ArgumentError, HeapExhausted, InvalidFree, LockstepError, ResourceClosed, UseAfterFree } from "./errors.ts";
import { SharedHeap } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

test("an arena takes everything back at once, or back to a mark", () => {
  const heap = SharedHeap.create(65536);
  const arena = new Arena(heap, 1024);
  const first = arena.allocate(100);
  const mark = arena.usedBytes;
  const second = arena.allocate(100);
  expect(() => arena.allocate(900)).toThrow(HeapExhausted);
  arena.reset(mark);
  expect(arena.allocate(100)).toBe(second);
  arena.reset();
  expect(arena.allocate(100)).toBe(first);
  const used = heap.usedBytes;
  arena.close();
  arena.close();
  expect(heap.usedBytes).toBe(used - 1024);
  expect(() => arena.allocate(1)).toThrow(ResourceClosed);
});

test("a closed arena says so from every method, and gives its bytes back once", () => {
  const heap = SharedHeap.create(65536);
  const before = heap.freeBytes;
  const arena = new Arena(heap, 1024);
  const tensor = Tensor.zeros(arena, "f32", [4]);
  arena.close();
  arena.close();
  expect(heap.freeBytes).toBe(before);
  expect([arena.isClosed, arena.freeBytes, arena.usedBytes]).toEqual([true, 0, 0]);
  for (const call of [() => arena.allocate(1), () => arena.reset(), () => arena.release(0)]) {
    expect(call).toThrow(ResourceClosed);
  }
  expect(() => Tensor.empty(arena, "f32", [1])).toThrow(ResourceClosed);
  expect(() => tensor.at(0)).toThrow(UseAfterFree);
  expect(() => tensor.free()).toThrow(InvalidFree);
});

test.each([Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 32, 2 ** 32 + 128, 2 ** 53])(
  "an arena of %p bytes is refused, and nothing is taken",
  (bytes) => {
    const heap = SharedHeap.create(65536);
    const before = heap.freeBytes;
    expect(() => new Arena(heap, bytes)).toThrow(LockstepError);
    const arena = new Arena(heap, 1024);
    expect(() => arena.allocate(bytes)).toThrow(LockstepError);
    expect(() => arena.reset(bytes)).toThrow(ArgumentError);
    expect(arena.usedBytes).toBe(0);
    arena.close();
    expect(heap.freeBytes).toBe(before);
  },
);

test("a tensor of an arena is usable exactly until its bytes are taken back, whatever the resets", () => {
  const steps = fc.array(fc.record({ reset: fc.boolean(), size: fc.nat(300), keep: fc.nat(1000) }), { maxLength: 40 });
  fc.assert(
    fc.property(steps, (list) => {
      const heap = SharedHeap.create(65536);
      const arena = new Arena(heap, 8192);
      const live = new Map<Tensor, number>();
      const dead: Tensor[] = [];
      const marks = [0];
      for (const { reset, size, keep } of list) {
        if (reset) {
          const mark = marks[keep % marks.length] ?? 0;
          arena.reset(mark);
          marks.splice(0, marks.length, ...marks.filter((other) => other <= mark));
          for (const [tensor, start] of live) {
            if (start < mark) continue;
            live.delete(tensor);
            dead.push(tensor);
          }
        } else if (arena.freeBytes >= size + 128) {
          const start = arena.usedBytes;
          live.set(Tensor.empty(arena, "u8", [size]), start);
          marks.push(arena.usedBytes);
        }
        for (const tensor of live.keys()) expect(tensor.isFreed).toBe(false);
        for (const tensor of dead) expect(tensor.isFreed).toBe(true);
      }
    }),
    { numRuns: 300, seed: 7 },
  );
});
