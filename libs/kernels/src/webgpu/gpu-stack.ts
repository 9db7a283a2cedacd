import { GpuTensor } from "../gpu-tensor.ts";
import type { Operand } from "../operand.ts";

/**
 * Operands of one dtype and shape that lie in one GPU buffer at equal distances, with the same strides, as one tensor
 * [count, ...shape] whose first stride is that distance; undefined for any others.
 */
export function gpuStack(operands: readonly Operand[]): GpuTensor | undefined {
  const [first, second] = operands;
  if (first?.place !== "device") return undefined;
  const { memory, dtype, shape, strides, size, elementOffset } = first;
  const stride = second?.place === "device" ? second.elementOffset - elementOffset : size;
  const isRegular = operands.every(
    (operand, index) =>
      operand.place === "device" &&
      operand.memory === memory &&
      operand.elementOffset === elementOffset + index * stride &&
      operand.strides.every((step, dim) => step === strides[dim] || shape[dim] === 1),
  );
  if (!isRegular || stride < 0) return undefined;
  return new GpuTensor(memory, dtype, [operands.length, ...shape], [stride, ...strides], elementOffset);
}
