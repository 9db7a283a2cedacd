import { ArgumentError, describe } from "@lockstep/tensor";
import { expectList } from "../../operand.ts";

/** Throws unless every length is a non-negative integer (of at most `max`); returns their sum and maximum. */
export function checkLengths(
  operation: string,
  lengths: ArrayLike<number>,
  max = Number.POSITIVE_INFINITY,
): { sum: number; max: number } {
  expectList(operation, "lengths", lengths);
  let sum = 0;
  let longest = 0;
  for (let index = 0; index < lengths.length; index++) {
    const length = lengths[index] ?? -1;
    if (!Number.isInteger(length) || length < 0) {
      throw new ArgumentError(operation, "lengths", "non-negative integers", `${describe(length)} at index ${index}`);
    }
    if (length > max) {
      throw new ArgumentError(operation, "lengths", `at most Lmax = ${max}`, `${length} at index ${index}`);
    }
    sum += length;
    longest = Math.max(longest, length);
  }
  return { sum, max: longest };
}
