import { ArgumentError, type SharedHeap } from "@lockstep/tensor";
import { expectHeapTensor, type Operand } from "../operand.ts";
import { WasmKernels } from "./wasm-kernels.ts";

/**
 * The memories that a thread's kernels compute in: the one that it shares with its peers and, when it has one, its own.
 * An op runs where the operand lies that is too large to be copied: a cache, else its result.
 */
export class WasmMemories {
  readonly own: WasmKernels;
  readonly #shared: WasmKernels;

  private constructor(own: WasmKernels, shared: WasmKernels) {
    this.own = own;
    this.#shared = shared;
  }

  /** @throws BackendUnavailable when the compiled kernels are missing */
  static async open(heap: SharedHeap, ownHeap: SharedHeap): Promise<WasmMemories> {
    const shared = await WasmKernels.open(heap);
    return new WasmMemories(ownHeap.id === heap.id ? shared : await WasmKernels.open(ownHeap, true), shared);
  }

  /** The kernels over the memory that a cache lies in. @throws ArgumentError when it is in none of these */
  ofCache(operation: string, argument: string, operand: Operand): WasmKernels {
    const { heap } = expectHeapTensor(operation, argument, operand);
    const kernels = this.#over(heap);
    if (kernels !== undefined) return kernels;
    const known = new Set([this.own.heap.id, this.#shared.heap.id]);
    throw new ArgumentError(operation, argument, `in a memory of this backend (${[...known].join(" or ")})`, heap.id);
  }

  /** The kernels over the memory of a result, where they have one. @throws ArgumentError for a GPU tensor */
  ofResult(operation: string, argument: string, operand: Operand): WasmKernels {
    return this.#over(expectHeapTensor(operation, argument, operand).heap) ?? this.own;
  }

  /** To be called when an op has run: brings results to other memories. */
  settle(): void {
    this.own.settle();
    this.#shared.settle();
  }

  /** To be called when an op has failed. */
  abandon(): void {
    this.own.abandon();
    this.#shared.abandon();
  }

  /** To be called when an op has failed: gives back all copies of operands. Returns false when there are none. */
  dropCopies(): boolean {
    const [own, shared] = [this.own.dropCopies(), this.#shared.dropCopies()];
    return own || shared;
  }

  /** Returns scratch memory to the heaps. */
  close(): void {
    this.own.close();
    if (this.#shared !== this.own) this.#shared.close();
  }

  #over(heap: SharedHeap): WasmKernels | undefined {
    if (heap.id === this.own.heap.id) return this.own;
    return heap.id === this.#shared.heap.id ? this.#shared : undefined;
  }
}
