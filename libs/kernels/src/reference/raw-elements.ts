import { DTYPE_BYTES, forEachOffset, spannedElements, type Tensor } from "@lockstep/tensor";

/** Elements as unsigned bit patterns, from the first to the last the view touches: moving them keeps NaN payloads. */
export function rawElements(tensor: Tensor): Uint8Array | Uint16Array | Uint32Array {
  const count = spannedElements(tensor.shape, tensor.strides);
  const { heap, byteOffset } = tensor;
  switch (DTYPE_BYTES[tensor.dtype]) {
    case 1:
      return new Uint8Array(heap.buffer, byteOffset, count);
    case 2:
      return new Uint16Array(heap.buffer, byteOffset, count);
    default:
      return new Uint32Array(heap.buffer, byteOffset, count);
  }
}

/** Copies every element bit for bit between tensors of the same dtype and shape, any strides. */
export function copyRaw(source: Tensor, target: Tensor): void {
  const from = rawElements(source);
  const to = rawElements(target);
  const offsets = new Float64Array(source.size);
  forEachOffset(source.shape, source.strides, (offset, index) => {
    offsets[index] = offset;
  });
  forEachOffset(target.shape, target.strides, (offset, index) => {
    to[offset] = from[offsets[index] ?? 0] ?? 0;
  });
}

/** Writes one bit pattern into every element. */
export function fillRaw(target: Tensor, bits: number): void {
  const to = rawElements(target);
  forEachOffset(target.shape, target.strides, (offset) => {
    to[offset] = bits;
  });
}
