import { ArgumentError, type DType, describe, formatShape, type SharedHeap, Tensor } from "@lockstep/tensor";
import { GpuTensor } from "./gpu-tensor.ts";

/**
 * What an op reads or writes: a tensor in a shared heap, or (for the `webgpu` backend only) one that stays on its GPU.
 * A webgpu op uploads its heap operands and downloads its heap results in one round trip; GPU operands are used in
 * place. The other backends compute on the heap directly.
 */
export type Operand = Tensor | GpuTensor;

/** Throws unless an op's arguments are an object. */
export function expectArguments(operation: string, args: object): void {
  if (typeof args !== "object" || args === null)
    throw new ArgumentError(operation, "args", "an object", describe(args));
}

/** Throws unless `value` can be called. */
export function expectFunction(operation: string, argument: string, value: () => unknown): void {
  if (typeof value !== "function") throw new ArgumentError(operation, argument, "a function", describe(value));
}

/** Throws unless `operand` is one, and was not freed. */
export function expectOperand(operation: string, argument: string, operand: Operand): void {
  if (!(operand instanceof Tensor || operand instanceof GpuTensor)) {
    throw new ArgumentError(operation, argument, "a tensor", describe(operand));
  }
  operand.assertUsable(operation, argument);
}

/** Throws unless `operand` is a tensor in a shared heap, and was not freed. */
export function expectTensor(operation: string, argument: string, operand: Tensor): void {
  if (!(operand instanceof Tensor)) {
    const received = (operand as unknown) instanceof GpuTensor ? "a GPU tensor" : describe(operand);
    throw new ArgumentError(operation, argument, "a tensor in a shared heap", received);
  }
  operand.assertUsable(operation, argument);
}

/** Whether an operand is a tensor in the memory of `heap`. */
export function isHeapTensorOf(heap: SharedHeap, operand: Operand | undefined): operand is Tensor {
  return operand instanceof Tensor && operand.heap.id === heap.id;
}

/** Throws unless `list` is something with a length, and numbered elements. */
export function expectList(operation: string, argument: string, list: ArrayLike<unknown>): void {
  if (typeof list !== "object" || list === null || !Number.isInteger(list.length) || list.length < 0) {
    throw new ArgumentError(operation, argument, "a list", describe(list));
  }
}

/** Throws unless `operand` is usable and has exactly these sizes; `null` accepts any size. */
export function expectShape(
  operation: string,
  argument: string,
  operand: Operand,
  shape: readonly (number | null)[],
): void {
  expectOperand(operation, argument, operand);
  let agrees = operand.shape.length === shape.length;
  for (let dim = 0; agrees && dim < shape.length; dim++) {
    const size = shape[dim];
    agrees = size === null || size === operand.shape[dim];
  }
  if (!agrees) {
    const wanted = `[${shape.map((size) => size ?? "any").join(", ")}]`;
    throw new ArgumentError(operation, argument, `of shape ${wanted}`, formatShape(operand.shape));
  }
}

/** Throws unless `operand` has one of these dtypes. */
export function expectDType(operation: string, argument: string, operand: Operand, dtypes: readonly DType[]): void {
  if (!dtypes.includes(operand.dtype)) {
    throw new ArgumentError(operation, argument, `of dtype ${dtypes.join(", ")}`, operand.dtype);
  }
}

/** Throws unless `value` is an integer within [low, high]. */
export function expectInteger(operation: string, argument: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new ArgumentError(operation, argument, `an integer from ${low} to ${high}`, describe(value));
  }
}

/** Throws unless `value` is true or false. */
export function expectFlag(operation: string, argument: string, value: boolean): void {
  if (typeof value !== "boolean") throw new ArgumentError(operation, argument, "true or false", describe(value));
}

/** f32, f16, bf16. */
export const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];

/** The operand as a heap tensor; throws for a GPU one, and for one of another memory than `heap` if that is given. */
export function expectHeapTensor(operation: string, argument: string, operand: Operand, heap?: SharedHeap): Tensor {
  if (!(operand instanceof Tensor)) {
    throw new ArgumentError(operation, argument, "a tensor in a shared heap for this backend", "a GPU tensor");
  }
  if (heap !== undefined && operand.heap.id !== heap.id) {
    throw new ArgumentError(operation, argument, `in the memory ${heap.id} of this backend`, operand.heap.id);
  }
  return operand;
}
