import { expectApart, expectWritable, GpuTensor, type Operand } from "@lockstep/kernels";
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

/**
 * Throws ArgumentError unless a layer's results have places of their own: apart from one another and from the layer's
 * caches, which kernels cannot tell where results go through copies.
 */
export function expectResults(
  operation: string,
  out: Operand,
  lse: Operand | undefined,
  keyCache: Operand,
  valueCache: Operand,
): void {
  expectWritable(operation, "out", out);
  expectApart(operation, "out", out, "keyCache", keyCache);
  expectApart(operation, "out", out, "valueCache", valueCache);
  if (lse === undefined) return;
  expectWritable(operation, "lse", lse);
  expectApart(operation, "lse", lse, "out", out);
  expectApart(operation, "lse", lse, "keyCache", keyCache);
  expectApart(operation, "lse", lse, "valueCache", valueCache);
}
