import { compileWasm } from "@lockstep/tensor";
import { REDUCE_WASM } from "./reduce.wasm.ts";

/** The exports of `reduce.as.ts`: see there for the operand table and the numerical contract. */
export interface ReduceKernels {
  /** Copies `bytes` bytes between byte addresses. */
  move(target: number, source: number, bytes: number): void;
  /** Copies operand 1 to operand 0 of the table at byte address `table`. */
  copy(table: number, dims: number, elementBytes: number): void;
  /** Folds operands 1 to `sources` into operand 0, from left to right. */
  fold(table: number, dims: number, sources: number, dtype: number, fold: number): void;
}

let compiled: Promise<WebAssembly.Module> | undefined;

/** The compiled module, shared by every world of the process. */
export function compileReduceKernels(): Promise<WebAssembly.Module> {
  compiled ??= compileWasm(REDUCE_WASM);
  return compiled;
}

/** The kernels over a shared memory. */
export function instantiateReduceKernels(module: WebAssembly.Module, memory: WebAssembly.Memory): ReduceKernels {
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as ReduceKernels;
}
