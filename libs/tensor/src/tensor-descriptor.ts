import { checkDType } from "./check-tensor-arguments.ts";
import { describe } from "./describe.ts";
import { DTYPE_BYTES, type DType } from "./dtype.ts";
import { ArgumentError } from "./errors.ts";
import { checkShape, checkSizes, elementCount, formatShape, spannedElements } from "./shape.ts";
import type { SharedHeap } from "./shared-heap.ts";

/** What crosses to a worker instead of a copy: where a tensor's bytes lie and how to read them. Plain data. */
export interface TensorDescriptor {
  /** Of its elements. */
  readonly dtype: DType;
  /** Sizes of its dimensions, the outermost first. */
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** Id of the memory the bytes lie in ({@link SharedHeap.id}). */
  readonly heapId: string;
  /** Byte offset of the first element within that memory. */
  readonly byteOffset: number;
}

/** Throws ArgumentError unless the descriptor is well formed, and describes elements within the memory of `heap`. */
export function checkDescriptor(operation: string, descriptor: TensorDescriptor, heap: SharedHeap): void {
  if (typeof descriptor !== "object" || descriptor === null) {
    throw new ArgumentError(operation, "descriptor", "a TensorDescriptor", describe(descriptor));
  }
  const { dtype, shape, strides, heapId, byteOffset } = descriptor;
  checkDType(operation, "descriptor.dtype", dtype);
  checkShape(operation, "descriptor.shape", shape);
  checkSizes(operation, "descriptor.strides", strides);
  if (strides.length !== shape.length) {
    throw new ArgumentError(operation, "descriptor.strides", `${shape.length}, one per dimension`, `${strides.length}`);
  }
  if (heapId !== heap.id) {
    throw new ArgumentError(operation, "heap", `the memory ${describe(heapId)}`, describe(heap.id));
  }
  const width = DTYPE_BYTES[dtype];
  if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || byteOffset % width !== 0) {
    const expected = `a non-negative multiple of ${width}, the bytes of a ${dtype}`;
    throw new ArgumentError(operation, "descriptor.byteOffset", expected, describe(byteOffset));
  }
  const bytes = spannedElements(shape, strides) * width;
  const { byteLength } = heap.buffer;
  // A stride of 0 repeats elements, but to no more than the memory could hold: loops run over all of them.
  if (!(byteOffset + bytes <= byteLength && elementCount(shape) * width <= byteLength)) {
    throw new ArgumentError(
      operation,
      "descriptor",
      `within the ${byteLength} bytes of the memory`,
      `shape ${formatShape(shape)}, strides ${formatShape(strides)} at byte ${byteOffset}`,
    );
  }
}
