import { GpuTensor, type Operand } from "@lockstep/kernels";
import { ArgumentError, type DType, describe, formatShape, Tensor } from "@lockstep/tensor";

/** Throws ArgumentError unless a tensor in a heap has this shape and one of these dtypes. */
export function expectTensor(
  operation: string,
  argument: string,
  tensor: Tensor,
  dtypes: readonly DType[],
  shape: readonly number[],
): void {
  if (!(tensor instanceof Tensor)) throw new ArgumentError(operation, argument, "a tensor", describe(tensor));
  expectOperand(operation, argument, tensor, dtypes, shape);
}

/** Throws ArgumentError unless a tensor, in a heap or on a GPU, has this shape and one of these dtypes. */
export function expectOperand(
  operation: string,
  argument: string,
  tensor: Operand,
  dtypes: readonly DType[],
  shape: readonly number[],
): void {
  if (!(tensor instanceof Tensor || tensor instanceof GpuTensor)) {
    throw new ArgumentError(operation, argument, "a tensor", describe(tensor));
  }
  tensor.assertUsable(operation, argument);
  const agrees = tensor.shape.length === shape.length && shape.every((size, dim) => size === tensor.shape[dim]);
  if (agrees && dtypes.includes(tensor.dtype)) return;
  throw new ArgumentError(
    operation,
    argument,
    `${dtypes.join(" or ")} of shape ${formatShape(shape)}`,
    tensor.toString(),
  );
}
