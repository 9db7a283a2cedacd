import { ArgumentError, type DType, describe, formatShape, Tensor } from "@lockstep/tensor";

/** Throws ArgumentError unless a tensor has this shape and one of these dtypes. */
export function expectTensor(
  operation: string,
  argument: string,
  tensor: Tensor,
  dtypes: readonly DType[],
  shape: readonly number[],
): void {
  if (!(tensor instanceof Tensor)) throw new ArgumentError(operation, argument, "a tensor", describe(tensor));
  tensor.assertUsable(operation, argument);
  const agrees = tensor.rank === shape.length && shape.every((size, dim) => size === tensor.shape[dim]);
  if (agrees && dtypes.includes(tensor.dtype)) return;
  throw new ArgumentError(
    operation,
    argument,
    `${dtypes.join(" or ")} of shape ${formatShape(shape)}`,
    tensor.toString(),
  );
}
