import type { DType, Tensor } from "@lockstep/tensor";
import type { Computed } from "./judge.ts";

const TYPE_NAMES: Readonly<Partial<Record<DType, string>>> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  f8e4m3: "F8_E4M3",
  i8: "I8",
  u8: "U8",
  i32: "I32",
};

/** What a tensor holds. */
export function computed(tensor: Tensor): Computed {
  return { typeName: TYPE_NAMES[tensor.dtype] ?? "", shape: tensor.shape, numbers: tensor.toNumbers() };
}
