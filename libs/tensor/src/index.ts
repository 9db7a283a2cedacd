/**
 * Strided tensors over memory that threads share, its allocator, numbers in 8 and 16 bits, safetensors files, and the
 * base of all typed errors.
 *
 * @module @lockstep/tensor
 */
export { Arena } from "./arena.ts";
export { failureCode } from "./byte-source.ts";
export { checkDType } from "./check-tensor-arguments.ts";
export { describe, describeName } from "./describe.ts";
export { describeOptionsError } from "./describe-options-error.ts";
export { DTYPE_BYTES, DTYPES, type DType, type ElementArray, elementArray, isFloatDType } from "./dtype.ts";
export { becomeWhenRegistered, type ErrorClass, errorClassOf, registerErrorClass } from "./error-classes.ts";
export {
  ArgumentError,
  HeapExhausted,
  InvalidFree,
  LockstepError,
  MemoryNotShared,
  ResourceClosed,
  SafetensorsError,
  UseAfterFree,
  WebAssemblyForbidden,
} from "./errors.ts";
export { float8ToNumber, numberToFloat8 } from "./float8.ts";
export { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from "./float16.ts";
export { type ElementView, isSameView, isViewAt, overlaps, overlapsItself } from "./overlap.ts";
export { builtinModule, platformName, RUNTIME, type Runtime } from "./runtime.ts";
export { SafetensorsFile } from "./safetensors.ts";
export type { IndexRange, TensorPart } from "./safetensors-part.ts";
export { type StreamedTensor, SafetensorsStream } from "./safetensors-stream.ts";
export { encodeSafetensors, writeSafetensors } from "./safetensors-writer.ts";
export {
  checkShape,
  checkSizes,
  contiguousStrides,
  elementCount,
  forEachOffset,
  formatShape,
  spannedElements,
} from "./shape.ts";
export { areShared, checkSharedMemory, sharedBytes } from "./shared-bytes.ts";
export { type Allocator, SharedHeap } from "./shared-heap.ts";
export { StagedTensors } from "./staged-tensors.ts";
export { Tensor } from "./tensor.ts";
export type { TensorDescriptor } from "./tensor-descriptor.ts";
export { compileWasm, compileWasmNow, wasmCode } from "./wasm-code.ts";
export type { WasmMemory, WasmModule } from "./wasm-memory.ts";
