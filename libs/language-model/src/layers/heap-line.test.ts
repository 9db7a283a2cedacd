import { expect, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { HEAP_LINE_BYTES } from "./heap-line.ts";

test("a heap rounds tensors up to whole lines", () => {
  const heap = SharedHeap.create(1 << 16);
  for (const lines of [1, 2, 3]) {
    const before = heap.usedBytes;
    Tensor.empty(heap, "i8", [(lines - 1) * HEAP_LINE_BYTES + 1]);
    expect(heap.usedBytes - before).toBe(lines * HEAP_LINE_BYTES);
  }
});
