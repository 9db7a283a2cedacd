import { type DType, forEachOffset, type Tensor } from "@lockstep/tensor";
import { rawElements } from "../reference/raw-elements.ts";

/** A result may differ from the reference x by absolute + relative * |x|, plus one unit in the last place if 16-bit. */
export interface Tolerance {
  readonly absolute: number;
  readonly relative: number;
}

/** For f32 results of f32 inputs. */
export const F32_TOLERANCE: Tolerance = { absolute: 1e-5, relative: 1e-5 };
/** For f32 results of 16-bit inputs. */
export const HALF_INPUT_TOLERANCE: Tolerance = { absolute: 1e-4, relative: 1e-4 };
/** For results that are rounded, not computed. */
export const EXACT: Tolerance = { absolute: 0, relative: 0 };

/** Throws, naming the worst element, unless all are within tolerance. Zeros, infinities and NaN must agree exactly. */
export function expectClose(name: string, actual: Tensor, expected: Tensor, tolerance: Tolerance): void {
  const got = actual.toNumbers();
  const wanted = expected.toNumbers();
  let worst = -1;
  let worstExcess = 0;
  for (let index = 0; index < wanted.length; index++) {
    const excess = excessError(got[index] ?? Number.NaN, wanted[index] ?? Number.NaN, expected.dtype, tolerance);
    if (excess > worstExcess) {
      worst = index;
      worstExcess = excess;
    }
  }
  if (worst >= 0) {
    throw new Error(`${name}: element ${worst} of ${expected} is ${got[worst]}, the reference says ${wanted[worst]}`);
  }
}

/** By how much an error exceeds what is allowed; 0 when it does not. */
function excessError(got: number, wanted: number, dtype: DType, tolerance: Tolerance): number {
  if (Object.is(got, wanted) || got === wanted) return 0;
  if (!Number.isFinite(got) || !Number.isFinite(wanted) || wanted === 0) return Number.POSITIVE_INFINITY;
  const exact = tolerance.absolute === 0 && tolerance.relative === 0;
  const unit = exact ? 0 : unitInLastPlace(wanted, dtype);
  const allowed = tolerance.absolute + tolerance.relative * Math.abs(wanted) + unit;
  return Math.max(0, Math.abs(got - wanted) - allowed);
}

/** Distance between neighbours of a 16-bit number; 0 for other dtypes. */
function unitInLastPlace(value: number, dtype: DType): number {
  if (dtype !== "f16" && dtype !== "bf16") return 0;
  const [fractionBits, minExponent] = dtype === "f16" ? [10, -14] : [7, -126];
  const exponent = Math.max(minExponent, Math.floor(Math.log2(Math.abs(value))));
  return 2 ** (exponent - fractionBits);
}

/** Throws, naming the first element, unless both tensors hold the same bit patterns. */
export function expectSameBits(name: string, actual: Tensor, expected: Tensor): void {
  const raw = rawElements(actual);
  const got: number[] = [];
  forEachOffset(actual.shape, actual.strides, (offset) => got.push(raw[offset] ?? 0));
  const wanted = rawElements(expected);
  forEachOffset(expected.shape, expected.strides, (offset, index) => {
    if (got[index] === wanted[offset]) return;
    throw new Error(`${name}: element ${index} of ${expected} has bits ${got[index]}, the reference ${wanted[offset]}`);
  });
}
