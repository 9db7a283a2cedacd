import type { DType } from "@lockstep/tensor";

/** How far a result is from its reference: the largest error, as a value and as a share of what is tolerated. */
export interface Deviation {
  readonly maxError: number;
  /** At most 1 when everything is within tolerance; Infinity where a value is NaN or infinite and should not be. */
  readonly worst: number;
}

/** Nothing compared yet. */
export const NO_DEVIATION: Deviation = { maxError: 0, worst: 0 };

/** Tolerated distance from the reference value x. */
export type Tolerance = (x: number) => number;

/** 1e-5 + 1e-5 |x|: f32 arithmetic on f32 inputs. */
export const F32_TOLERANCE: Tolerance = (x) => 1e-5 + 1e-5 * Math.abs(x);

/** 1e-4 + 1e-5 |x|: f32 results of 16-bit inputs. */
export const HALF_INPUT_TOLERANCE: Tolerance = (x) => 1e-4 + 1e-5 * Math.abs(x);

/** One unit in the last place of a 16-bit dtype around x. */
export function lastPlaceTolerance(dtype: DType): Tolerance {
  const [fractionBits, smallest] = dtype === "bf16" ? [7, 2 ** -133] : [10, 2 ** -24];
  return (x) => {
    const magnitude = Math.abs(x);
    if (magnitude === 0) return smallest;
    return Math.max(2 ** (Math.floor(Math.log2(magnitude)) - fractionBits), smallest);
  };
}

/** The tolerance of a result of this dtype. */
export function toleranceFor(dtype: DType): Tolerance {
  return dtype === "f32" ? F32_TOLERANCE : lastPlaceTolerance(dtype);
}

/**
 * Compares element by element. Infinities must agree in sign, NaN only with NaN; -0 equals 0. `exempt` marks
 * elements whose reference value is replaced by 0.
 */
export function compare(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
  exempt?: (index: number) => boolean,
): Deviation {
  if (actual.length !== expected.length) return { maxError: Number.POSITIVE_INFINITY, worst: Number.POSITIVE_INFINITY };
  let maxError = 0;
  let worst = 0;
  for (let index = 0; index < expected.length; index++) {
    const got = actual[index] ?? Number.NaN;
    const reference = expected[index] ?? Number.NaN;
    const want = Number.isNaN(reference) && exempt?.(index) === true ? 0 : reference;
    if (got === want || (Number.isNaN(got) && Number.isNaN(want))) continue;
    const error = Math.abs(got - want);
    if (Number.isNaN(error) || error === Number.POSITIVE_INFINITY) {
      return { maxError: Number.POSITIVE_INFINITY, worst: Number.POSITIVE_INFINITY };
    }
    maxError = Math.max(maxError, error);
    worst = Math.max(worst, error / tolerance(want));
  }
  return { maxError, worst };
}

/** The larger of two deviations. */
export function worse(a: Deviation, b: Deviation): Deviation {
  return { maxError: Math.max(a.maxError, b.maxError), worst: Math.max(a.worst, b.worst) };
}
