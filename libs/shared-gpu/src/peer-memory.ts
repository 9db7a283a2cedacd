import { GpuTensor, type KernelBackend } from "@lockstep/kernels";
import { ArgumentError, type DType } from "@lockstep/tensor";
import type { GpuView } from "./op-message.ts";

/** Memory that a peer allocated, by the number that it gave it. */
export class PeerMemory {
  readonly #backend: KernelBackend;
  readonly #rank: number;
  readonly #tensors = new Map<number, GpuTensor>();
  /** Why memory is missing that could not be allocated. */
  readonly #failures = new Map<number, unknown>();

  constructor(backend: KernelBackend, rank: number) {
    this.#backend = backend;
    this.#rank = rank;
  }

  allocate(id: number, dtype: DType, shape: readonly number[]): void {
    try {
      const tensor = this.#backend.empty(dtype, shape);
      if (tensor instanceof GpuTensor) this.#tensors.set(id, tensor);
    } catch (error) {
      this.#failures.set(id, error);
      throw error;
    }
  }

  free(id: number): void {
    this.#tensors.get(id)?.free();
    this.#tensors.delete(id);
    this.#failures.delete(id);
  }

  view({ id, dtype, shape, strides, elementOffset }: GpuView): GpuTensor {
    const whole = this.#tensors.get(id);
    if (whole !== undefined) return new GpuTensor(whole.memory, dtype, shape, strides, elementOffset, () => undefined);
    if (this.#failures.has(id)) throw this.#failures.get(id);
    const expected = `one that rank ${this.#rank}'s backend made with empty, and that was not freed`;
    throw new ArgumentError("openSharedBackend", "a GPU tensor", expected, "another");
  }

  forget(): void {
    this.#tensors.clear();
    this.#failures.clear();
  }
}
