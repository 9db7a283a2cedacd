import { expect, test } from "bun:test";
import { SharedHeap } from "@lockstep/tensor";
import { LoadProgress, loadNotes } from "./load-progress.ts";

const KIBI = 1024;

test("bytes of ranks of the host's process are summed", () => {
  const heap = SharedHeap.create(1 << 20);
  const progress = LoadProgress.create(heap, 3, 3);
  const hostProcess = { index: 0, count: 1, ranks: [0, 1, 2] };
  for (const rank of hostProcess.ranks) loadNotes(progress.descriptor, { rank, heap, hostProcess })(rank * 10 * KIBI);
  expect(progress.bytes).toBe(30 * KIBI);
  progress.free();
  expect(heap.usedBytes).toBe(0);
});

test("ranks of other processes touch nothing, and are taken to have read as much as the others", () => {
  const [heap, other] = [SharedHeap.create(1 << 20), SharedHeap.create(1 << 20)];
  const progress = LoadProgress.create(heap, 4, 1);
  const note = (rank: number, index: number, of: SharedHeap) =>
    loadNotes(progress.descriptor, { rank, heap: of, hostProcess: { index, count: 4, ranks: [rank] } });
  note(0, 0, heap)(50 * KIBI);
  note(1, 1, other)(70 * KIBI);
  expect(progress.bytes).toBe(200 * KIBI);
});

test("where nobody looks nothing is noted", () => {
  const heap = SharedHeap.create(1 << 20);
  const note = loadNotes(undefined, { rank: 0, heap, hostProcess: { index: 0, count: 1, ranks: [0] } });
  expect(note(KIBI)).toBeUndefined();
});
