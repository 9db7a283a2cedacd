/** Numbers of free blocks, handed out lowest first: a binary heap, so that many blocks cost no more than few. */
export class FreeBlocks {
  readonly #heap: Int32Array;
  #size: number;

  /** Blocks 0 to total - 1. */
  constructor(total: number) {
    this.#heap = Int32Array.from({ length: total }, (_, block) => block);
    this.#size = total;
  }

  get size(): number {
    return this.#size;
  }

  /** Adds a block that is not here. */
  add(block: number): void {
    const heap = this.#heap;
    let at = this.#size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] ?? 0;
      if (above < block) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = block;
  }

  /** Takes the lowest block out; undefined when there is none. */
  takeLowest(): number | undefined {
    if (this.#size === 0) return undefined;
    const heap = this.#heap;
    const lowest = heap[0];
    const last = heap[--this.#size] ?? 0;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && (heap[child + 1] ?? 0) < (heap[child] ?? 0)) child++;
      const below = heap[child] ?? 0;
      if (below > last) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
    return lowest;
  }
}
