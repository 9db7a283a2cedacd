import { compileWasm, type DType, type SharedHeap, StagedTensors, type Tensor } from "@lockstep/tensor";
import { BackendUnavailable } from "../errors.ts";
import type { KernelContext } from "../context.ts";
import { expectHeapTensor, type Operand } from "../operand.ts";
import { KERNELS_WASM } from "./kernels.wasm.ts";

/** Compiled once per thread. */
let compiled: Promise<WebAssembly.Module> | undefined;

/** An exported kernel: pointers, strides and sizes in, nothing out. */
export type WasmFunction = (...args: number[]) => void;

/**
 * The kernels' module, instantiated over a heap's memory, with scratch memory from that heap. Operands of an op that
 * lie in other memories are copied: inputs before it runs, results after it ({@link WasmKernels.settle}).
 */
export class WasmKernels {
  readonly heap: SharedHeap;
  readonly #exports: WebAssembly.Exports;
  readonly #isOwn: boolean;
  readonly #staged: StagedTensors;
  /** Results that lie here for the time being, and where they go. */
  readonly #results: { readonly staged: Tensor; readonly target: Tensor }[] = [];
  #scratch = 0;
  #scratchBytes = 0;
  #ints: Int32Array = new Int32Array(0);
  #floats: Float32Array = new Float32Array(0);

  private constructor(heap: SharedHeap, exports: WebAssembly.Exports, isOwn: boolean) {
    this.heap = heap;
    this.#isOwn = isOwn;
    this.#exports = exports;
    this.#staged = new StagedTensors(heap);
  }

  /** @param isOwn whether no other thread has this memory, of two that a backend computes in */
  static async open(heap: SharedHeap, isOwn = false): Promise<WasmKernels> {
    compiled ??= compileWasm(KERNELS_WASM);
    const instance = await WebAssembly.instantiate(await compiled, { env: { memory: heap.memory } });
    const kernels = new WasmKernels(heap, instance.exports, isOwn);
    kernels.kernel("initialise")();
    return kernels;
  }

  /** The kernel of a name, as `kernels.as.ts` exports it. */
  kernel(name: string): WasmFunction {
    const found = this.#exports[name];
    if (typeof found !== "function") throw new BackendUnavailable("wasm", `no kernel ${name}`, "Rebuild it.");
    return found as WasmFunction;
  }

  /** {@link WasmKernels.kernel}, kept in a context. */
  get(context: KernelContext, name: string): WasmFunction {
    return context.get(this.#isOwn ? `${name} own memory` : name, () => this.kernel(name));
  }

  /** A tensor that lies here. @throws ArgumentError for one that does not */
  resident(operation: string, argument: string, operand: Operand): Tensor {
    return expectHeapTensor(operation, argument, operand, this.heap);
  }

  /**
   * At least `bytes` of scratch memory from the heap; the same memory on every call, so only one op may use it at a
   * time. Throws HeapExhausted when it has to grow and cannot.
   */
  reserve(bytes: number): Scratch {
    if (bytes > this.#scratchBytes) {
      const wanted = Math.max(bytes, 2 * this.#scratchBytes, 16384);
      const grown = this.heap.allocate(wanted);
      if (this.#scratchBytes > 0) this.heap.release(this.#scratch);
      this.#scratch = grown;
      this.#scratchBytes = wanted;
      this.#ints = new Int32Array(this.heap.buffer, grown, wanted >> 2);
      this.#floats = new Float32Array(this.heap.buffer, grown, wanted >> 2);
    }
    return { pointer: this.#scratch, ints: this.#ints, floats: this.#floats };
  }

  /** A tensor that an op reads: itself or, from another memory, a copy. @throws ArgumentError, HeapExhausted */
  input(operation: string, argument: string, operand: Operand): Tensor {
    const tensor = expectHeapTensor(operation, argument, operand);
    return this.#staged.isElsewhere(tensor) ? this.#staged.copyOf(`${operation} ${argument}`, tensor) : tensor;
  }

  /**
   * A tensor that an op writes, every element of it: itself or, for one in another memory, room here.
   * @throws ArgumentError, HeapExhausted
   */
  output(operation: string, argument: string, operand: Operand): Tensor {
    const target = expectHeapTensor(operation, argument, operand);
    if (!this.#staged.isElsewhere(target)) return target;
    const staged = this.#staged.room(`${operation} ${argument}`, target);
    this.#results.push({ staged, target });
    return staged;
  }

  /** To be called when the op has run: brings results to other memories. */
  settle(): void {
    for (const { staged, target } of this.#results) target.copyFrom(staged);
    this.#results.length = 0;
  }

  /** To be called when the op has failed. */
  abandon(): void {
    this.#results.length = 0;
  }

  /**
   * Gives back the copies of operands, which are of the sizes of earlier ops, and the scratch memory that lies between
   * them. Returns false when there are no copies.
   */
  dropCopies(): boolean {
    if (this.#staged.isEmpty) return false;
    this.close();
    return true;
  }

  /** Returns all scratch memory to the heap. It can be used again. */
  close(): void {
    this.#staged.free();
    if (this.#scratchBytes > 0) this.heap.release(this.#scratch);
    this.#scratchBytes = 0;
  }
}

/** Scratch memory: its address, and its words as i32 and f32. */
export interface Scratch {
  readonly pointer: number;
  readonly ints: Int32Array;
  readonly floats: Float32Array;
}

const CODES: Partial<Record<DType, number>> = { f32: 0, f16: 1, bf16: 2, f8e4m3: 3 };

/** How kernels are told a float dtype at run time. */
export function dtypeCode(tensor: Tensor): number {
  return CODES[tensor.dtype] ?? 0;
}
