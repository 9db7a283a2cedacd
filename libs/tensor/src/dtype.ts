/**
 * Element types. Arithmetic on f16 and bf16 always accumulates in f32. f8e4m3 (OCP e4m3fn) and i8 are for quantised
 * keys, values and queries.
 */
export type DType = "f32" | "f16" | "bf16" | "i32" | "u32" | "u8" | "f8e4m3" | "i8";

/** Every dtype, in a fixed order. */
export const DTYPES: readonly DType[] = ["f32", "f16", "bf16", "i32", "u32", "u8", "f8e4m3", "i8"];

/** Bytes per element. */
export const DTYPE_BYTES: Readonly<Record<DType, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  i32: 4,
  u32: 4,
  u8: 1,
  f8e4m3: 1,
  i8: 1,
};

/** True for f32, f16 and bf16. */
export function isFloatDType(dtype: DType): boolean {
  return dtype === "f32" || dtype === "f16" || dtype === "bf16";
}

/** Typed array that holds a dtype's raw elements: f16, bf16 and f8e4m3 appear as their bit patterns. */
export type ElementArray = Float32Array | Int32Array | Uint32Array | Uint16Array | Uint8Array | Int8Array;

/** A typed view of `length` elements of `dtype` at `byteOffset`; f16, bf16 and f8e4m3 as bit patterns. */
export function elementArray(dtype: DType, buffer: ArrayBufferLike, byteOffset: number, length: number): ElementArray {
  switch (dtype) {
    case "f32":
      return new Float32Array(buffer, byteOffset, length);
    case "i32":
      return new Int32Array(buffer, byteOffset, length);
    case "u32":
      return new Uint32Array(buffer, byteOffset, length);
    case "f16":
    case "bf16":
      return new Uint16Array(buffer, byteOffset, length);
    case "i8":
      return new Int8Array(buffer, byteOffset, length);
    case "u8":
    case "f8e4m3":
      return new Uint8Array(buffer, byteOffset, length);
  }
}
