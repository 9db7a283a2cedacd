import type { Allocator } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

/**
 * Copies of tensors that lie in other memories, one for each role (an argument's name): made when it is needed first,
 * used again by every later tensor of the same dtype and shape.
 */
export class StagedTensors {
  readonly #allocator: Allocator;
  readonly #byRole = new Map<string, Tensor>();

  /** Takes its memory from `allocator`. */
  constructor(allocator: Allocator) {
    this.#allocator = allocator;
  }

  /** True when a tensor lies in another memory than the copies do. */
  isElsewhere(tensor: Tensor): boolean {
    return tensor.heap !== this.#allocator.heap && tensor.heap.id !== this.#allocator.heap.id;
  }

  /** Whether there are no copies. */
  get isEmpty(): boolean {
    return this.#byRole.size === 0;
  }

  /**
   * A contiguous tensor of the dtype and shape of another, with undefined contents: one for each `role`.
   * @throws HeapExhausted
   */
  room(role: string, like: Tensor): Tensor {
    const known = this.#byRole.get(role);
    if (known !== undefined && isAlike(known, like)) return known;
    if (known !== undefined) {
      this.#byRole.delete(role);
      known.free();
    }
    const made = Tensor.empty(this.#allocator, like.dtype, like.shape);
    this.#byRole.set(role, made);
    return made;
  }

  /** The tensor itself where it lies in this memory, else a copy: one for each `role`. @throws HeapExhausted */
  copyOf(role: string, tensor: Tensor): Tensor {
    return this.isElsewhere(tensor) ? this.room(role, tensor).copyFrom(tensor) : tensor;
  }

  /** Gives the memory back. It can be used again. */
  free(): void {
    for (const tensor of this.#byRole.values()) tensor.free();
    this.#byRole.clear();
  }
}

function isAlike(a: Tensor, b: Tensor): boolean {
  if (a.dtype !== b.dtype || a.shape.length !== b.shape.length) return false;
  for (let dim = 0; dim < a.shape.length; dim++) if (a.shape[dim] !== b.shape[dim]) return false;
  return true;
}
