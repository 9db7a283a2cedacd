import { AttentionPlan, GpuTensor, type PagedCacheSize } from "@lockstep/kernels";
import { type SharedHeap, Tensor } from "@lockstep/tensor";

/**
 * What calls that run later hold on to, so that callers may change or free what they gave: copies of heap tensors, and,
 * on the rank that holds the device, of plans.
 */
export class HeldOperands {
  readonly #heap: SharedHeap;
  #copies: Tensor[] = [];
  /** Copies of plans of this thread's own. */
  readonly #plans = new Map<AttentionPlan, AttentionPlan>();

  constructor(heap: SharedHeap) {
    this.#heap = heap;
  }

  /** How many copies there are; see {@link releaseFrom}. */
  get count(): number {
    return this.#copies.length;
  }

  /** Arguments whose heap tensors the caller may change: as they are now. @throws HeapExhausted */
  of<T>(value: T): T {
    if (value instanceof Tensor) return this.keep(value.clone(this.#heap)) as T;
    if (value instanceof GpuTensor || value instanceof AttentionPlan) return value;
    if (value instanceof Int32Array) return value.slice() as T;
    if (ArrayBuffer.isView(value)) return value;
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) return value.map((part: unknown) => this.of(part)) as T;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, this.of(part)])) as T;
  }

  /** Keeps a tensor until everything is released. */
  keep(tensor: Tensor): Tensor {
    this.#copies.push(tensor);
    return tensor;
  }

  /** A copy of a plan for caches of a size; the same one each time. @throws HeapExhausted */
  planOf(plan: AttentionPlan, size: PagedCacheSize): AttentionPlan {
    let copy = this.#plans.get(plan);
    if (copy === undefined) {
      copy = new AttentionPlan(plan.step, size, this.#heap);
      this.#plans.set(plan, copy);
    }
    return copy;
  }

  /** Gives back the copies from the `first` on. */
  releaseFrom(first: number): void {
    for (const copy of this.#copies.splice(first)) copy.free();
  }

  release(): void {
    this.releaseFrom(0);
    for (const plan of this.#plans.values()) plan.free();
    this.#plans.clear();
  }
}
