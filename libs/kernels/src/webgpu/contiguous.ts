import { ArgumentError } from "@lockstep/tensor";
import type { Operand } from "../operand.ts";

/** Throws unless a GPU operand is contiguous; heap operands, which are gathered, may have any strides. */
export function expectContiguousOnGpu(operation: string, argument: string, operand: Operand): void {
  if (operand.place === "heap" || operand.isContiguous) return;
  const strides = `of strides [${operand.strides.join(", ")}]`;
  throw new ArgumentError(operation, argument, "contiguous when it lies on the GPU", strides);
}
