import type { DType } from "./dtype.ts";
import { float8ToNumber, numberToFloat8 } from "./float8.ts";
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from "./float16.ts";

/** Turns a raw element of `dtype` into the number it stands for. */
export function decoder(dtype: DType): (raw: number) => number {
  if (dtype === "f16") return float16ToNumber;
  if (dtype === "bf16") return bfloat16ToNumber;
  if (dtype === "f8e4m3") return float8ToNumber;
  return (raw) => raw;
}

/** Turns a number into a raw element of `dtype`; integers follow the typed array's own conversion. */
export function encoder(dtype: DType): (value: number) => number {
  if (dtype === "f16") return numberToFloat16;
  if (dtype === "bf16") return numberToBfloat16;
  if (dtype === "f8e4m3") return numberToFloat8;
  return (value) => value;
}
