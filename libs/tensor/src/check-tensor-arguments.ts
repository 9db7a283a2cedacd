import { describe } from "./describe.ts";
import { DTYPE_BYTES, DTYPES, type DType } from "./dtype.ts";
import { ArgumentError } from "./errors.ts";
import { checkShape, checkSizes, elementCount, formatShape, spannedElements } from "./shape.ts";
import type { SharedHeap } from "./shared-heap.ts";
import type { TensorDescriptor } from "./tensor.ts";

/** Throws ArgumentError unless `dtype` is one. */
export function checkDType(operation: string, argument: string, dtype: DType): void {
  if (!DTYPES.includes(dtype)) {
    throw new ArgumentError(operation, argument, `one of ${DTYPES.join(", ")}`, describe(dtype));
  }
}

/** Throws ArgumentError unless `values` is a list of `count` numbers; typed arrays of numbers are not searched. */
export function checkNumbers(
  operation: string,
  values: ArrayLike<number>,
  count: number,
  shape?: readonly number[],
): void {
  const expected = shape === undefined ? `${count} numbers` : `${count} numbers for shape ${formatShape(shape)}`;
  const isList = typeof values === "object" && values !== null && Number.isInteger(values.length);
  if (!isList) throw new ArgumentError(operation, "values", expected, describe(values));
  if (values.length !== count) {
    throw new ArgumentError(operation, "values", expected, `${values.length} numbers`);
  }
  if (ArrayBuffer.isView(values) && !(values instanceof BigInt64Array || values instanceof BigUint64Array)) return;
  for (let index = 0; index < count; index++) {
    const value: unknown = values[index];
    if (typeof value !== "number") {
      throw new ArgumentError(operation, "values", expected, `${describe(value)} at index ${index}`);
    }
  }
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
