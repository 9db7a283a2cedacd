import type { Operand } from "@lockstep/kernels";
import { ArgumentError, formatShape, type Tensor } from "@lockstep/tensor";

/** @throws ArgumentError unless an operand has the dtype and shape of the tensor that is copied to or from it */
export function expectAlike(operation: string, argument: string, operand: Operand, model: Tensor): void {
  if (operand.dtype === model.dtype && formatShape(operand.shape) === formatShape(model.shape)) return;
  const expected = `of dtype ${model.dtype} and shape ${formatShape(model.shape)}`;
  throw new ArgumentError(operation, argument, expected, `${operand.dtype} ${formatShape(operand.shape)}`);
}
