import { afterAll, expect, spyOn, test } from "bun:test";
import { openBackend, SlotPlan } from "@lockstep/kernels";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { RepeatedOperands } from "../arguments/repeated-operands.ts";
import { KvCaches } from "./kv-caches.ts";

const heap = SharedHeap.create(4 << 20);
const backend = await openBackend("wasm", { heap });
afterAll(() => backend.close());

const SHAPE = { layers: 2, numBlocks: 2, blockSize: 4, kvHeads: 1, headDim: 4, valueDim: 4, mla: false };

test("refuses what is no layer, and remembers nothing of it", () => {
  const caches = KvCaches.open({ backend, ...SHAPE, dtype: "f32", hasRowScales: false, scales: [] });
  const [key, value] = [Tensor.zeros(heap, "f32", [1, 1, 4]), Tensor.zeros(heap, "f32", [1, 1, 4])];
  const slots = new SlotPlan([3], SHAPE);
  const find = spyOn(RepeatedOperands.prototype, "find");
  try {
    for (const layer of [2, -1, 0.5, Number.NaN, "0" as never]) {
      expect(() => caches.write(layer, key, value, slots)).toThrow(ArgumentError);
      expect(() => caches.write(layer, key, value, slots)).toThrow("`layer` must be from 0 to 1");
    }
    expect(find).not.toHaveBeenCalled();
    void caches.write(1, key, value, slots);
    expect(find).toHaveBeenCalled();
  } finally {
    find.mockRestore();
    caches.free();
    key.free();
    value.free();
  }
});
