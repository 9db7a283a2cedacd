import { ArgumentError } from "@lockstep/tensor";
import type { Operand } from "../../operand.ts";

/** Throws unless bounds on a GPU are contiguous, but for the gaps between the three: some tokens of more. */
export function expectBoundsOnGpu(name: string, bounds: Operand): void {
  if (bounds.place === "heap" || bounds.slice(0, 0, 1).isContiguous) return;
  const strides = `of strides [${bounds.strides.join(", ")}]`;
  throw new ArgumentError(name, "bounds", "contiguous behind the first dimension when they lie on the GPU", strides);
}
