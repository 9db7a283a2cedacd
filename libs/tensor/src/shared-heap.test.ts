import { expect, test } from "bun:test";
import fc from "fast-check";
import { ArgumentError, HeapExhausted, InvalidFree } from "./errors.ts";
import { SharedHeap } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

test("allocations are aligned, disjoint, and all come back", () => {
  fc.assert(
    fc.property(fc.array(fc.record({ bytes: fc.nat(5000), freeAt: fc.nat(40) }), { maxLength: 40 }), (requests) => {
      const heap = SharedHeap.create(1 << 20);
      const before = heap.freeBytes;
      const live = new Map<number, { start: number; end: number; freeAt: number }>();
      for (const [step, { bytes, freeAt }] of requests.entries()) {
        const start = heap.allocate(bytes);
        expect(start % 128).toBe(0);
        for (const other of live.values()) expect(start >= other.end || start + bytes <= other.start).toBe(true);
        live.set(start, { start, end: start + Math.max(1, bytes), freeAt });
        for (const range of live.values()) {
          if (range.freeAt === step) {
            heap.release(range.start);
            live.delete(range.start);
          }
        }
      }
      for (const range of live.values()) heap.release(range.start);
      expect(heap.freeBytes).toBe(before);
      expect(heap.largestFreeBytes).toBe(before);
    }),
  );
});

test("exhaustion says how much was asked and left, and allocates nothing", () => {
  const heap = SharedHeap.create(65536);
  heap.allocate(60_000);
  const left = heap.freeBytes;
  const attempt = (): number => heap.allocate(6000);
  expect(attempt).toThrow(HeapExhausted);
  expect(attempt).toThrow(`6000 bytes were asked, ${left} of ${heap.totalBytes} bytes are left`);
  expect(heap.freeBytes).toBe(left);
});

test("freeing twice, or what was never allocated, is an error", () => {
  const heap = SharedHeap.create(65536);
  const offset = heap.allocate(10);
  heap.release(offset);
  expect(() => heap.release(offset)).toThrow(InvalidFree);
  expect(() => heap.release(4)).toThrow(InvalidFree);
});

test("two ranges of one memory never meet", () => {
  const whole = SharedHeap.create(1 << 17);
  const first = SharedHeap.range(whole.id, whole.memory, 128, 4096);
  const second = SharedHeap.range(whole.id, whole.memory, 128 + 4096, 4096);
  expect(first.allocate(4096)).toBe(128);
  expect(second.allocate(4096)).toBe(128 + 4096);
  expect(() => first.allocate(1)).toThrow(HeapExhausted);
  expect(() => SharedHeap.range(whole.id, whole.memory, 0, 4096)).toThrow(ArgumentError);
  expect(() => SharedHeap.range(whole.id, whole.memory, 128, 1 << 18)).toThrow(ArgumentError);
});

test("zeros are zeros, whatever was written before into memory that came back", () => {
  fc.assert(
    fc.property(fc.array(fc.record({ bytes: fc.nat(3000), keep: fc.boolean() }), { maxLength: 60 }), (requests) => {
      const whole = SharedHeap.create(1 << 18);
      for (const heap of [whole, SharedHeap.range(whole.id, whole.memory, 65536, 65536)]) {
        for (const { bytes, keep } of requests) {
          if (heap.largestFreeBytes < bytes + 256) break;
          const zeros = Tensor.zeros(heap, "u8", [bytes]);
          expect(zeros.bytes.every((byte) => byte === 0)).toBe(true);
          zeros.fill(0xa5);
          if (!keep) zeros.free();
        }
      }
    }),
  );
});

test("zeros of memory that was never used take none of the machine's", () => {
  const heap = SharedHeap.create(3 * 2 ** 30);
  const before = process.memoryUsage.rss();
  const zeros = Tensor.zeros(heap, "f32", [2 ** 29]);
  expect(zeros.at(0) + zeros.at(zeros.size - 1)).toBe(0);
  // Written, they would take 2 GiB.
  expect(process.memoryUsage.rss() - before).toBeLessThan(2 ** 30);
});
