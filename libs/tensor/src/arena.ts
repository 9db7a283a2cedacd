import { describe } from "./describe.ts";
import { ArgumentError, HeapExhausted, ResourceClosed } from "./errors.ts";
import { type Allocator, checkBytes, roundUpToLine, SharedHeap } from "./shared-heap.ts";

/**
 * A fixed range taken from a heap, handed out front to back and taken back all at once: the scratch space of one
 * decode step. Tensors allocated before a {@link Arena.reset} that took their bytes back say so when they are used.
 */
export class Arena implements Allocator {
  /** The heap that its bytes are of. */
  readonly heap: SharedHeap;
  /** Bytes that it was opened with. */
  readonly totalBytes: number;
  readonly #start: number;
  #used = 0;
  #allocations = 0;
  #closed = false;
  /** Resets that still tell living ranges from others, their marks ascending: what each took back, and when. */
  readonly #resetMarks: number[] = [];
  readonly #resetAllocations: number[] = [];

  /** Takes `bytes` (rounded up to 128) from `heap`. @throws ArgumentError, HeapExhausted */
  constructor(heap: SharedHeap, bytes: number) {
    if (!(heap instanceof SharedHeap)) throw new ArgumentError("Arena", "heap", "a SharedHeap", describe(heap));
    checkBytes("Arena", bytes);
    this.heap = heap;
    this.totalBytes = roundUpToLine(bytes);
    this.#start = heap.allocate(this.totalBytes);
  }

  /** 0 once it is closed. */
  get freeBytes(): number {
    return this.#closed ? 0 : this.totalBytes - this.#used;
  }

  /** 0 once it is closed. */
  get usedBytes(): number {
    return this.#used;
  }

  /** True after `close`. */
  get isClosed(): boolean {
    return this.#closed;
  }

  get allocations(): number {
    return this.#allocations;
  }

  /** Byte offset of a fresh range of `bytes`. @throws ArgumentError, HeapExhausted; ResourceClosed once it is closed */
  allocate(bytes: number): number {
    this.#expectOpen("allocate");
    checkBytes("Arena.allocate", bytes);
    const wanted = roundUpToLine(Math.max(bytes, 1));
    if (this.#used + wanted > this.totalBytes) {
      throw new HeapExhausted("Arena", bytes, this.freeBytes, this.freeBytes, this.totalBytes);
    }
    const offset = this.#start + this.#used;
    this.#used += wanted;
    this.#allocations++;
    return offset;
  }

  /** Single ranges, whatever their `offset`, are not taken back: they live until {@link Arena.reset}. */
  release(_offset: number): void {
    this.#expectOpen("release");
  }

  /** Takes back everything that was allocated, or everything since `mark` (an earlier `usedBytes`). */
  reset(mark = 0): void {
    this.#expectOpen("reset");
    if (!Number.isInteger(mark) || mark < 0 || mark > this.#used) {
      throw new ArgumentError("Arena.reset", "mark", `an integer from 0 to ${this.#used}`, describe(mark));
    }
    this.#used = mark;
    // A later reset that takes back at least as much says all that an earlier one said.
    while ((this.#resetMarks.at(-1) ?? -1) >= mark) {
      this.#resetMarks.pop();
      this.#resetAllocations.pop();
    }
    this.#resetMarks.push(mark);
    this.#resetAllocations.push(this.#allocations);
  }

  isLive(offset: number, allocations: number): boolean {
    if (this.#closed) return false;
    for (let index = 0; index < this.#resetMarks.length; index++) {
      const mark = this.#resetMarks[index] ?? 0;
      const before = this.#resetAllocations[index] ?? 0;
      if (allocations <= before && offset >= this.#start + mark) return false;
    }
    return true;
  }

  /** Returns the whole range to the heap. Idempotent; every other method throws ResourceClosed from then on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#used = 0;
    this.heap.release(this.#start);
  }

  #expectOpen(method: string): void {
    if (this.#closed) throw new ResourceClosed(`Arena.${method}`, "the arena", "Make a new one with new Arena.");
  }
}
