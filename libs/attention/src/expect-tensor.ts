import { ArgumentError, type DType, formatShape, type Tensor } from "@lockstep/tensor";

/** Throws ArgumentError unless a tensor has this shape and one of these dtypes. */
export function expectTensor(
  operation: string,
  argument: string,
  tensor: Tensor,
  dtypes: readonly DType[],
  shape: readonly number[],
): void {
  const agrees = tensor.rank === shape.length && shape.every((size, dim) => size === tensor.shape[dim]);
  if (agrees && dtypes.includes(tensor.dtype)) return;
  throw new ArgumentError(
    operation,
    argument,
    `${dtypes.join(" or ")} of shape ${formatShape(shape)}`,
    tensor.toString(),
  );
}
