import { readFile } from "node:fs/promises";
import type { DType, SharedHeap, Tensor } from "@lockstep/tensor";
import { BackendUnavailable } from "../errors.ts";

const MODULE_URL = new URL("../../build/kernels.wasm", import.meta.url);

/** Compiled once per thread. */
let compiled: Promise<WebAssembly.Module> | undefined;

async function compile(): Promise<WebAssembly.Module> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new Uint8Array(await readFile(MODULE_URL));
  } catch {
    throw new BackendUnavailable("wasm", `${MODULE_URL.pathname} is missing`, "Build it: bun run build:wasm.");
  }
  return WebAssembly.compile(bytes);
}

/** An exported kernel: pointers, strides and sizes in, nothing out. */
export type WasmFunction = (...args: number[]) => void;

/** The kernels' module, instantiated over a heap's memory, with scratch memory from that heap. */
export class WasmKernels {
  readonly heap: SharedHeap;
  readonly #exports: WebAssembly.Exports;
  #scratch = 0;
  #scratchBytes = 0;
  #ints: Int32Array = new Int32Array(0);
  #floats: Float32Array = new Float32Array(0);

  private constructor(heap: SharedHeap, exports: WebAssembly.Exports) {
    this.heap = heap;
    this.#exports = exports;
  }

  static async open(heap: SharedHeap): Promise<WasmKernels> {
    compiled ??= compile();
    let module: WebAssembly.Module;
    try {
      module = await compiled;
    } catch (error) {
      compiled = undefined;
      throw error;
    }
    const instance = await WebAssembly.instantiate(module, { env: { memory: heap.memory } });
    const kernels = new WasmKernels(heap, instance.exports);
    kernels.kernel("initialise")();
    return kernels;
  }

  /** The kernel of a name, as `kernels.as.ts` exports it. */
  kernel(name: string): WasmFunction {
    const found = this.#exports[name];
    if (typeof found !== "function") throw new BackendUnavailable("wasm", `no kernel ${name}`, "Rebuild it.");
    return found as WasmFunction;
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

  /** Returns the scratch memory to the heap. */
  close(): void {
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
