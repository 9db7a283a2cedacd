import { GpuTensor } from "../gpu-tensor.ts";
import type { Operand } from "../operand.ts";

/**
 * Operands of one dtype and shape that lie in one GPU buffer at equal distances, as one tensor [count, size] whose
 * first stride is that distance; undefined for any others.
 */
export function gpuStack(operands: readonly Operand[]): GpuTensor | undefined {
  const [first, second] = operands;
  if (first?.place !== "device") return undefined;
  const { memory, dtype, size, elementOffset } = first;
  const stride = second?.place === "device" ? second.elementOffset - elementOffset : size;
  const isRegular = operands.every(
    (operand, index) =>
      operand.place === "device" &&
      operand.memory === memory &&
      operand.elementOffset === elementOffset + index * stride,
  );
  if (!isRegular || stride < 0) return undefined;
  return new GpuTensor(memory, dtype, [operands.length, size], [stride, 1], elementOffset);
}
