import { ArgumentError, formatShape, type SharedHeap, type Tensor } from "@lockstep/tensor";
import { MAX_DIMS } from "../transport/shared-memory/control-block.ts";
import { REDUCTIONS, type Reduction } from "../transport/shared-memory/collective-header.ts";

/** Throws unless a tensor is usable, lies in the world's memory and has few enough dimensions. */
export function checkTensor(op: string, argument: string, tensor: Tensor, heap: SharedHeap): void {
  if (tensor.heap.buffer !== heap.buffer) {
    throw new ArgumentError(
      op,
      argument,
      "in the world's shared memory",
      `${tensor} in another memory`,
      "Allocate it from context.heap.",
    );
  }
  tensor.assertUsable(op, argument);
  if (tensor.shape.length > MAX_DIMS) {
    throw new ArgumentError(op, argument, `of at most ${MAX_DIMS} dimensions`, tensor.toString());
  }
}

/** Throws unless both tensors have the same dtype. */
export function checkSameDType(op: string, argument: string, tensor: Tensor, like: Tensor): void {
  if (tensor.dtype !== like.dtype) throw new ArgumentError(op, argument, `of dtype ${like.dtype}`, tensor.toString());
}

/** Throws unless `tensor` has `shape` with dimension `axis` replaced by `length` (no dimension when `axis` is negative). */
export function checkChunkShape(
  op: string,
  argument: string,
  tensor: Tensor,
  shape: readonly number[],
  axis: number,
  length: number,
): void {
  let agrees = tensor.shape.length === shape.length;
  for (let dim = 0; agrees && dim < shape.length; dim++) {
    agrees = tensor.shape[dim] === (dim === axis ? length : shape[dim]);
  }
  if (agrees) return;
  const expected = shape.map((size, dim) => (dim === axis ? length : size));
  throw new ArgumentError(op, argument, `of shape ${formatShape(expected)}`, tensor.toString());
}

/** A dimension of `tensor`; negative counts from the end. */
export function checkDim(op: string, dim: number, tensor: Tensor): number {
  const rank = tensor.shape.length;
  const at = dim < 0 ? dim + rank : dim;
  if (!Number.isInteger(dim) || at < 0 || at >= rank) {
    throw new ArgumentError(op, "dim", `a dimension of ${formatShape(tensor.shape)}`, String(dim));
  }
  return at;
}

export function checkReduction(op: string, reduction: Reduction, { dtype }: Tensor): void {
  if (dtype === "f8e4m3" || dtype === "i8") {
    throw new ArgumentError(
      op,
      "input",
      "of a dtype that has sums",
      dtype,
      "Quantised rows can be moved, not reduced.",
    );
  }
  if (!REDUCTIONS.includes(reduction)) {
    throw new ArgumentError(op, "op", `one of ${REDUCTIONS.join(", ")}`, String(reduction));
  }
}

/** Throws unless a deadline, when given, is a positive number of milliseconds. */
export function checkDeadline(op: string, deadlineMs: number | undefined): void {
  if (deadlineMs !== undefined && !(deadlineMs > 0)) {
    throw new ArgumentError(op, "deadlineMs", "a positive number of milliseconds", String(deadlineMs));
  }
}

/** The error for two arguments that share bytes. */
export function overlapError(op: string, argument: string, other: string): ArgumentError {
  return new ArgumentError(op, argument, `apart from \`${other}\` in memory`, "overlapping it");
}
