import type { SharedHeap } from "@lockstep/tensor";
import type { Ceilings } from "../report.ts";
import { medianSeconds } from "../timing.ts";

const MEBIBYTE = 1 << 20;
const BLOCK = 32 * MEBIBYTE;
const FILL = 1;

/** What one core copies and reads within the shared memory, over blocks far larger than its caches. */
export async function measureCeilings(heap: SharedHeap): Promise<Ceilings> {
  return { copy: await copyBandwidth(heap, BLOCK), read: await readBandwidth(heap, BLOCK) };
}

/** Bytes per second, read and written, that one core copies within the shared memory, over blocks of `bytes`. */
async function copyBandwidth(heap: SharedHeap, bytes: number): Promise<number> {
  // Several blocks in turn, so that a copy larger than a cache does not find its own output there.
  const pairs = Math.max(1, Math.min(8, Math.floor((64 * MEBIBYTE) / bytes)));
  const offsets = Array.from({ length: 2 * pairs }, () => heap.allocate(bytes));
  const views = offsets.map((offset) => new Uint8Array(heap.buffer, offset, bytes).fill(1));
  let turn = 0;
  const seconds = await medianSeconds(() => {
    const from = views[(2 * turn) % views.length];
    const to = views[(2 * turn + 1) % views.length];
    if (from !== undefined) to?.set(from);
    turn++;
  });
  for (const offset of offsets) heap.release(offset);
  return (2 * bytes) / seconds;
}

/** Bytes per second that one core reads: the engine's own search for a byte that does not occur. */
async function readBandwidth(heap: SharedHeap, bytes: number): Promise<number> {
  const offsets = [heap.allocate(bytes), heap.allocate(bytes)];
  const views = offsets.map((offset) => new Uint8Array(heap.buffer, offset, bytes).fill(FILL));
  let turn = 0;
  const seconds = await medianSeconds(() => {
    const found = views[turn++ % views.length]?.indexOf(FILL + 1);
    if (found !== -1) throw new Error("readBandwidth found a byte that nobody wrote");
  });
  for (const offset of offsets) heap.release(offset);
  return bytes / seconds;
}
