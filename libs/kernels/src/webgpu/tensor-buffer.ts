import type { GpuTensor } from "../gpu-tensor.ts";

/** The buffer of a tensor on this thread's GPU. @throws ArgumentError when it lies on another thread's */
export function bufferOf(tensor: GpuTensor): GPUBuffer {
  // Public declarations know it by its shape alone.
  return tensor.buffer as GPUBuffer;
}
