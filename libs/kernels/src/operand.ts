import { ArgumentError, type DType, formatShape, type SharedHeap, Tensor } from "@lockstep/tensor";
import type { GpuTensor } from "./gpu-tensor.ts";

/**
 * What an op reads or writes: a tensor in a shared heap, or (for the `webgpu` backend only) one that stays on its GPU.
 * A webgpu op uploads its heap operands and downloads its heap results in one round trip; GPU operands are used in
 * place. The other backends compute on the heap directly.
 */
export type Operand = Tensor | GpuTensor;

/** Throws unless `operand` has exactly these sizes; `null` accepts any size. */
export function expectShape(
  operation: string,
  argument: string,
  operand: Operand,
  shape: readonly (number | null)[],
): void {
  const agrees =
    operand.shape.length === shape.length && shape.every((size, dim) => size === null || size === operand.shape[dim]);
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
    throw new ArgumentError(operation, argument, `an integer from ${low} to ${high}`, String(value));
  }
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
