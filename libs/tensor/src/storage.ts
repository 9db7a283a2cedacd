import type { Allocator } from "./shared-heap.ts";

/** Who gives a tensor's bytes back, shared by the tensor and every view of it. */
export class Storage {
  readonly offset: number;
  readonly #allocator: Allocator;
  /** Which of the allocator's ranges it is, where the allocator tells. */
  readonly #allocations: number;
  #freed = false;

  /** @param zeros whether the bytes are to be zeros, which the allocator must be able to give */
  constructor(allocator: Allocator, bytes: number, zeros = false) {
    this.offset = zeros && allocator.allocateZeros ? allocator.allocateZeros(bytes) : allocator.allocate(bytes);
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
