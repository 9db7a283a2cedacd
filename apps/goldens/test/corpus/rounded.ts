import {
  bfloat16ToNumber,
  type DType,
  float16ToNumber,
  float8ToNumber,
  numberToBfloat16,
  numberToFloat16,
  numberToFloat8,
} from "@lockstep/tensor";
import type { Random } from "../../../../libs/kernels/src/testing/random.ts";

/** Numbers as a dtype holds them. */
export function rounded(dtype: DType, numbers: ArrayLike<number>): Float64Array {
  return Float64Array.from(numbers, (number) => {
    if (dtype === "f32") return Math.fround(number);
    if (dtype === "f16") return float16ToNumber(numberToFloat16(number));
    if (dtype === "bf16") return bfloat16ToNumber(numberToBfloat16(number));
    if (dtype === "f8e4m3") return float8ToNumber(numberToFloat8(number));
    return number;
  });
}

/** Normally distributed numbers as a dtype holds them. */
export function normals(random: Random, dtype: DType, count: number, factor = 1): Float64Array {
  return rounded(
    dtype,
    random.normals(count).map((number) => number * factor),
  );
}
