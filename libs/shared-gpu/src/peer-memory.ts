import {
  type AttentionPlan,
  type AttentionStep,
  GpuTensor,
  type KernelBackend,
  type PagedCacheSize,
} from "@lockstep/kernels";
import { ArgumentError, type DType } from "@lockstep/tensor";
import type { GpuView } from "./op-message.ts";

/** Memory that a rank allocated, and plans that it made, by the numbers that it gave them. */
export class PeerMemory {
  readonly #backend: KernelBackend;
  readonly #rank: number;
  readonly #tensors = new Map<number, GpuTensor>();
  readonly #plans = new Map<number, AttentionPlan>();
  /** Why memory is missing that could not be allocated, or a plan that could not be made. */
  readonly #failures = new Map<number, unknown>();

  constructor(backend: KernelBackend, rank: number) {
    this.#backend = backend;
    this.#rank = rank;
  }

  allocate(id: number, dtype: DType, shape: readonly number[]): void {
    try {
      const tensor = this.#backend.empty(dtype, shape);
      if (tensor.place === "device") this.#tensors.set(id, tensor);
    } catch (error) {
      this.#failures.set(id, error);
      throw error;
    }
  }

  /** Takes note of memory that the owner of the device allocated itself, and will free. */
  adopt(id: number, tensor: GpuTensor): void {
    this.#tensors.set(id, tensor);
  }

  /** Forgets such memory. */
  drop(id: number): void {
    this.#tensors.delete(id);
  }

  free(id: number): void {
    this.#tensors.get(id)?.free();
    this.#tensors.delete(id);
    this.#failures.delete(id);
  }

  plan(id: number, step: AttentionStep, size: PagedCacheSize): void {
    try {
      this.#plans.set(id, this.#backend.planAttention(step, size));
    } catch (error) {
      this.#failures.set(id, error);
      throw error;
    }
  }

  freePlan(id: number): void {
    this.#plans.get(id)?.free();
    this.#plans.delete(id);
    this.#failures.delete(id);
  }

  planOf(id: number): AttentionPlan {
    const plan = this.#plans.get(id);
    if (plan !== undefined) return plan;
    if (this.#failures.has(id)) throw this.#failures.get(id);
    const expected = `one that rank ${this.#rank}'s backend made, and that was not freed`;
    throw new ArgumentError("partialAttention", "plan", expected, "another");
  }

  view({ id, dtype, shape, strides, elementOffset }: Omit<GpuView, "rank">): GpuTensor {
    const whole = this.#tensors.get(id);
    if (whole !== undefined) return new GpuTensor(whole.memory, dtype, shape, strides, elementOffset, () => undefined);
    if (this.#failures.has(id)) throw this.#failures.get(id);
    const expected = `one that rank ${this.#rank}'s backend made with empty, and that was not freed`;
    throw new ArgumentError("openSharedBackend", "a GPU tensor", expected, "another");
  }

  forget(): void {
    this.#tensors.clear();
    for (const plan of this.#plans.values()) plan.free();
    this.#plans.clear();
    this.#failures.clear();
  }
}
