import type { Allocator } from "./shared-heap.ts";

/** Who gives a tensor's bytes back, shared by the tensor and every view of it. */
export class Storage {
  readonly offset: number;
  readonly #allocator: Allocator;
  /** Which of the allocator's ranges it is, where the allocator tells. */
  readonly #allocations: number;
  #freed = false;

  constructor(allocator: Allocator, bytes: number) {
    this.offset = allocator.allocate(bytes);
    this.#allocator = allocator;
    this.#allocations = allocator.allocations ?? 0;
  }

  /** False once the bytes were given back: freed, or taken back by their arena. */
  get isLive(): boolean {
    return !this.#freed && (this.#allocator.isLive?.(this.offset, this.#allocations) ?? true);
  }

  free(): void {
    this.#freed = true;
    this.#allocator.release(this.offset);
  }
}
