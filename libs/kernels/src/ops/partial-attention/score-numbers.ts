// Numbers that a kernel multiplies scores by, or that join them: what f32 can hold of them, with every factor on the
// way.
import { ArgumentError, describe } from "@lockstep/tensor";

/** The smallest normal f32. GPUs may take anything smaller for 0. */
const SMALLEST = 2 ** -126;
/** The largest f32. Scores are kept times log2(e), and so are the numbers that meet them. */
const LARGEST = (2 - 2 ** -23) * 2 ** 127;
const LARGEST_TIMES_LOG2_E = LARGEST / Math.LOG2E;

/** Throws ArgumentError unless a scale is 0, or neither it nor it times log2(e) leaves the normal numbers of f32. */
export function checkScoreFactor(operation: string, argument: string, scale: number): void {
  const size = typeof scale === "number" ? Math.abs(scale) : Number.NaN;
  if (scale === 0 || (size >= SMALLEST && size <= LARGEST_TIMES_LOG2_E)) return;
  throw new ArgumentError(
    operation,
    argument,
    `0, or of a size from 2^-126 to ${LARGEST_TIMES_LOG2_E}`,
    describe(scale),
  );
}

/** Throws ArgumentError unless a softcap is positive and stays a normal f32 times log2(e). */
export function checkSoftcap(operation: string, softcap: number): void {
  if (typeof softcap === "number" && softcap >= SMALLEST && softcap <= LARGEST_TIMES_LOG2_E) return;
  const expected = `a positive number from 2^-126 to ${LARGEST_TIMES_LOG2_E}`;
  throw new ArgumentError(operation, "softcap", expected, describe(softcap));
}

/** Throws ArgumentError unless a sink stays finite in f32 times log2(e), or is -inf for none. */
export function checkSink(operation: string, argument: string, sink: number): void {
  if (typeof sink === "number" && (sink === Number.NEGATIVE_INFINITY || Math.abs(sink) <= LARGEST_TIMES_LOG2_E)) return;
  const expected = `of a size up to ${LARGEST_TIMES_LOG2_E}, or -inf for none`;
  throw new ArgumentError(operation, argument, expected, describe(sink));
}
