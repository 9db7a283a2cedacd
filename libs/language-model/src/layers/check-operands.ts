// Checks of what a layer is given, before anything is computed.
import { ArgumentError, type Tensor } from "@lockstep/tensor";
import { groupsOf, type Weight } from "./weight.ts";

/** The scales of an int8 matrix. @throws ArgumentError when there are none, or not one for each group */
export function scalesOf({ values, scales }: Weight, operation: string): Tensor {
  const [count = 0, cols = 0] = values.shape;
  if (scales === undefined) throw new ArgumentError(`Layers.${operation}`, "scales", "those of i8", "undefined");
  expectRows(scales, groupsOf(cols), count, operation, "scales");
  return scales;
}

/** The error of a dtype that no layer reads. */
export function unknownDType(operation: string, argument: string, { dtype }: Tensor): ArgumentError {
  return new ArgumentError(`Layers.${operation}`, argument, "f32, f16 or bf16", dtype);
}

/** @throws ArgumentError for a tensor with gaps */
export function expectContiguous(tensor: Tensor, operation: string, argument: string): void {
  if (!tensor.isContiguous) {
    throw new ArgumentError(`Layers.${operation}`, argument, "contiguous", tensor.toString());
  }
}

/** Number of rows of `size` elements in a contiguous f32 tensor. @throws ArgumentError for another */
export function rowsOf(tensor: Tensor, size: number, operation: string, argument: string): number {
  const count = size === 0 ? 0 : tensor.size / size;
  expectRows(tensor, size, Math.floor(count), operation, argument);
  return count;
}

/** @throws ArgumentError for what is not so many contiguous rows of so many elements */
export function expectRows(tensor: Tensor, size: number, count: number, operation: string, argument: string): void {
  if (tensor.size !== size * count || tensor.dtype !== "f32" || !tensor.isContiguous) {
    const expected = `${count} contiguous rows of ${size} f32`;
    throw new ArgumentError(`Layers.${operation}`, argument, expected, tensor.toString());
  }
}
