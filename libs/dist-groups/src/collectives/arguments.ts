import { ArgumentError, describe, formatShape, overlapsItself, type SharedHeap, Tensor } from "@lockstep/tensor";
import { isList } from "../errors/printed-value.ts";
import { DETERMINISMS, type Determinism, MAX_DIMS, REDUCTIONS, type Reduction } from "../wire/collective-header.ts";

/** The longest delay that setTimeout takes. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Throws unless a tensor is usable, lies in the world's memory and has few enough dimensions. */
export function checkTensor(op: string, argument: string, tensor: Tensor, heap: SharedHeap): void {
  checkLive(op, argument, tensor);
  if (tensor.heap.buffer !== heap.buffer) {
    throw new ArgumentError(
      op,
      argument,
      "in the world's shared memory",
      `${tensor} in another memory`,
      "Allocate it from context.heap.",
    );
  }
  if (tensor.shape.length > MAX_DIMS) {
    throw new ArgumentError(op, argument, `of at most ${MAX_DIMS} dimensions`, tensor.toString());
  }
}

/** {@link checkTensor} of a tensor that is written: no two of its elements may lie at one place. */
export function checkOutput(op: string, argument: string, tensor: Tensor, heap: SharedHeap): void {
  checkTensor(op, argument, tensor, heap);
  if (!overlapsItself(tensor)) return;
  const expected = "a tensor of which no two elements lie at one place, as it is written";
  throw new ArgumentError(op, argument, expected, `${tensor} with strides ${formatShape(tensor.strides)}`);
}

/** Throws unless both tensors have the same dtype. */
export function checkSameDType(op: string, argument: string, tensor: Tensor, like: Tensor): void {
  if (tensor.dtype !== like.dtype) throw new ArgumentError(op, argument, `of dtype ${like.dtype}`, tensor.toString());
}

/**
 * Throws unless `tensor` has `shape` with dimension `axis` replaced by `length` (no dimension when `axis` is negative).
 */
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
    throw new ArgumentError(op, "dim", `a dimension of ${formatShape(tensor.shape)}`, describe(dim));
  }
  return at;
}

/** Throws unless `reduction` is one. */
export function checkReductionName(op: string, reduction: Reduction): void {
  if (REDUCTIONS.includes(reduction)) return;
  throw new ArgumentError(op, "op", `one of ${REDUCTIONS.join(", ")}`, describe(reduction));
}

/** Throws unless `deterministic` says what a sum may depend on. */
export function checkDeterministic(op: string, deterministic: Determinism): void {
  if (DETERMINISMS.includes(deterministic)) return;
  throw new ArgumentError(op, "deterministic", `one of ${DETERMINISMS.join(", ")}`, describe(deterministic));
}

/** Throws unless elements of this dtype can be summed. */
export function checkReducible(op: string, { dtype }: Tensor): void {
  if (dtype === "f8e4m3" || dtype === "i8") {
    throw new ArgumentError(
      op,
      "input",
      "of a dtype that has sums",
      dtype,
      "Quantised rows can be moved, not reduced.",
    );
  }
}

/** Throws unless options, when given, are an object with a deadline, when given, of milliseconds that a timer takes. */
export function checkOptions(op: string, options: { readonly deadlineMs?: number | undefined } | undefined): void {
  if (options === undefined) return;
  if (typeof options !== "object" || options === null) {
    throw new ArgumentError(op, "options", "an object", describe(options));
  }
  const { deadlineMs } = options;
  if (deadlineMs === undefined) return;
  if (typeof deadlineMs === "number" && deadlineMs > 0 && deadlineMs <= LONGEST_TIMER_MS) return;
  throw new ArgumentError(op, "deadlineMs", `milliseconds, more than 0, to ${LONGEST_TIMER_MS}`, describe(deadlineMs));
}

/**
 * Throws unless `tensor` is one whose bytes are still its own. Tensors that passed every check before may have been
 * freed since.
 */
export function checkLive(op: string, argument: string, tensor: Tensor): void {
  if (!Tensor.isTensor(tensor)) throw new ArgumentError(op, argument, "a Tensor", describe(tensor));
  tensor.assertUsable(op, argument);
}

/** {@link checkLive} of a list. */
export function checkAllLive(op: string, argument: string, tensors: readonly Tensor[]): void {
  if (!isList(tensors)) throw new ArgumentError(op, argument, "a list of tensors", describe(tensors));
  for (let at = 0; at < tensors.length; at++) {
    const tensor: unknown = tensors[at];
    if (Tensor.isTensor(tensor) && !tensor.isFreed) continue;
    checkLive(op, `${argument}[${at}]`, tensor as Tensor);
  }
}

/**
 * Throws unless `dim` could be a dimension of some tensor: plans are found by it before {@link checkDim} says of which.
 */
export function checkDimNumber(op: string, dim: number): void {
  if (Number.isInteger(dim) && dim >= -2 * MAX_DIMS && dim < 2 * MAX_DIMS) return;
  throw new ArgumentError(op, "dim", `an integer from ${-MAX_DIMS} to ${MAX_DIMS - 1}`, describe(dim));
}

/** The error for two arguments that share bytes. */
export function overlapError(op: string, argument: string, other: string): ArgumentError {
  return new ArgumentError(op, argument, `apart from \`${other}\` in memory`, "overlapping it");
}
