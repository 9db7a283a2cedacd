import { ArgumentError, isSameView, overlaps, overlapsItself } from "@lockstep/tensor";
import type { Operand } from "./operand.ts";

/** True when both operands lie in one memory and have an element's byte in common. */
export function shareBytes(a: Operand, b: Operand): boolean {
  if (a.place === "heap") return b.place === "heap" && (a.heap === b.heap || a.heap.id === b.heap.id) && overlaps(a, b);
  return b.place === "device" && a.memory === b.memory && overlaps(a, b);
}

/** Throws unless `written`, which an op writes, has no byte in common with `other`. */
export function expectApart(
  operation: string,
  argument: string,
  written: Operand,
  otherArgument: string,
  other: Operand,
): void {
  if (shareBytes(written, other)) throw overlapError(operation, argument, otherArgument);
}

/** As {@link expectApart} for ops that may work in place: `written` may also be `other` itself. */
export function expectApartOrSame(
  operation: string,
  argument: string,
  written: Operand,
  otherArgument: string,
  other: Operand,
): void {
  if (shareBytes(written, other) && !isSameView(written, other)) throw overlapError(operation, argument, otherArgument);
}

/** Throws unless every element of `written`, which an op writes, has a place of its own. */
export function expectWritable(operation: string, argument: string, written: Operand): void {
  if (overlapsItself(written)) {
    throw new ArgumentError(
      operation,
      argument,
      "a view whose elements lie apart",
      `one of strides ${written.strides}`,
    );
  }
}

function overlapError(operation: string, argument: string, other: string): ArgumentError {
  return new ArgumentError(operation, argument, `apart from \`${other}\` in memory`, "overlapping it");
}
