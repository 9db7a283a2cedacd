import { expect, test } from "bun:test";
import { SharedHeap } from "./shared-heap.ts";
import { StagedTensors } from "./staged-tensors.ts";
import { Tensor } from "./tensor.ts";

const here = SharedHeap.create(1 << 16);
const there = SharedHeap.create(1 << 16);

test("what lies here is used as it is, also through another range of the memory", () => {
  const staged = new StagedTensors(here);
  const tensor = Tensor.from(here, "f32", [2], [1, 2]);
  expect(staged.copyOf("x", tensor)).toBe(tensor);
  const range = SharedHeap.range(here.id, here.memory, 128, 1024);
  expect(staged.isElsewhere(Tensor.fromDescriptor(tensor.descriptor, range))).toBe(false);
  tensor.free();
});

test("what lies elsewhere is copied, rows of a stride too, and the same room serves a role again", () => {
  const staged = new StagedTensors(here);
  const before = here.usedBytes;
  const tensor = Tensor.from(there, "f16", [2, 3], [1, 2, 3, 4, 5, 6]).transpose(0, 1);
  const copy = staged.copyOf("x", tensor);
  expect([copy.heap.id, copy.isContiguous, ...copy.toNumbers()]).toEqual([here.id, true, 1, 4, 2, 5, 3, 6]);
  const again = Tensor.from(there, "f16", [3, 2], [6, 5, 4, 3, 2, 1]);
  expect(staged.copyOf("x", again)).toBe(copy);
  expect([...copy.toNumbers()]).toEqual([6, 5, 4, 3, 2, 1]);
  expect(staged.copyOf("y", again)).not.toBe(copy);
  const other = staged.copyOf("x", Tensor.from(there, "i32", [1], [7]));
  expect([...other.toNumbers()]).toEqual([7]);
  expect(copy.isFreed).toBe(true);
  staged.free();
  expect(here.usedBytes).toBe(before);
});
