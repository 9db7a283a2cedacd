import { type DType, numberToBfloat16, numberToFloat8, numberToFloat16 } from "@lockstep/tensor";

const scratch = new DataView(new ArrayBuffer(4));

/** The bit pattern of `value` rounded to `dtype`, as an unsigned integer. */
export function padBits(dtype: DType, value: number): number {
  switch (dtype) {
    case "f32":
      scratch.setFloat32(0, value);
      return scratch.getUint32(0);
    case "f16":
      return numberToFloat16(value);
    case "bf16":
      return numberToBfloat16(value);
    case "i32":
    case "u32":
      return value >>> 0;
    case "f8e4m3":
      return numberToFloat8(value);
    case "u8":
    case "i8":
      return value & 0xff;
  }
}
