import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";

/**
 * Writes where a tensor lies: its pointer, and the strides of its first `dims` dimensions, in bytes. Zeros for none.
 */
export function putView(ints: Int32Array, at: number, tensor: Tensor | undefined, dims: number): void {
  const width = tensor === undefined ? 0 : DTYPE_BYTES[tensor.dtype];
  ints[at] = tensor?.byteOffset ?? 0;
  for (let dim = 0; dim < dims; dim++) ints[at + 1 + dim] = (tensor?.strides[dim] ?? 0) * width;
}
