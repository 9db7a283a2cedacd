import { expect, test } from "bun:test";
import type { ProcessGroup } from "@lockstep/dist-groups";
import { HeapExhausted, SharedHeap, Tensor } from "@lockstep/tensor";
import { peerBackend } from "./peer-backend.ts";

/** Of an owner who runs nothing, and finds nothing wrong. */
const group = {
  rank: 1,
  readPeers: (own: readonly Tensor[], use: (peers: readonly (readonly Tensor[])[]) => unknown) => {
    // The owner comes for the same, and has nothing to say.
    const owner = own.map((tensor) => tensor.slice(0, 0, 1));
    return use([owner, own]);
  },
} as unknown as ProcessGroup;

test("an op without room for all of its copies leaves none, and writes nothing later", async () => {
  const heap = SharedHeap.create(1 << 16);
  const far = SharedHeap.create(1 << 16);
  const backend = peerBackend({ device: "a GPU", batchInvariant: false }, heap, group, undefined);
  const tensor = (...shape: number[]): Tensor => Tensor.zeros(far, "f32", shape);
  const states = { outs: [tensor(2, 3, 8)], lses: [tensor(2, 3)], out: tensor(2, 3, 8), lse: tensor(2, 3) };
  const onDevice = backend.empty("f32", [2]);
  // The copies of all but the last fit.
  const before = heap.usedBytes;
  const rest = heap.allocate(heap.freeBytes - 256 - 128 - 256);
  expect(() => backend.mergeAttnStates(states)).toThrow(HeapExhausted);
  heap.release(rest);
  expect(heap.usedBytes).toBe(before);
  states.out.fill(7);
  await backend.download(onDevice, tensor(2));
  expect(states.out.toNumbers().every((value) => value === 7)).toBe(true);
  expect(heap.usedBytes).toBe(before);
  await backend.close();
  expect(heap.usedBytes).toBe(0);
});
