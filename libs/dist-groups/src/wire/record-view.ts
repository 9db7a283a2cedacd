import { DTYPE_BYTES, DTYPES, type SharedHeap, Tensor } from "@lockstep/tensor";
import { recordAddress, recordShape, recordStrides } from "./tensor-record.ts";

/** Of a record's tensor the elements [start, start + count) of a dimension; an axis that it lacks: all of it. */
export interface ViewedRange {
  readonly axis: number;
  readonly start: number;
  readonly count: number;
}

/** All of a record's tensor. */
export const WHOLE_TENSOR: ViewedRange = { axis: -1, start: 0, count: 0 };

/** A view of the tensor of a record, or of a range of it, where it lies in the memory of `heap`. */
export function viewOfRecord(words: Int32Array, record: number, heap: SharedHeap, range: ViewedRange): Tensor {
  const head = words[record] ?? 0;
  const dims = head >>> 8;
  const dtype = DTYPES[head & 0xff] ?? "u8";
  const shape = [...words.subarray(recordShape(record), recordShape(record) + dims)];
  const strides = [...words.subarray(recordStrides(record), recordStrides(record) + dims)];
  const { axis, start, count } = range;
  if (axis >= 0 && axis < dims) shape[axis] = count;
  // Addresses are told modulo 2^32: of what has come in part, the first element may lie before the memory.
  const skipped = start * (strides[axis] ?? 0) * DTYPE_BYTES[dtype];
  const byteOffset = (recordAddress(words, record) + skipped) >>> 0;
  return Tensor.fromDescriptor({ dtype, shape, strides, heapId: heap.id, byteOffset }, heap);
}

/** True when `view` is exactly what {@link viewOfRecord} would make. Allocates nothing. */
export function isViewOfRecord(
  words: Int32Array,
  record: number,
  view: Tensor,
  axis: number,
  start: number,
  count: number,
): boolean {
  const { shape, strides, dtype } = view;
  const head = words[record] ?? 0;
  if (DTYPES[head & 0xff] !== dtype || head >>> 8 !== shape.length) return false;
  const skipped = start * (strides[axis] ?? 0) * DTYPE_BYTES[dtype];
  if ((recordAddress(words, record) + skipped) >>> 0 !== view.byteOffset) return false;
  for (let dim = 0; dim < shape.length; dim++) {
    if ((dim === axis ? count : words[recordShape(record) + dim]) !== shape[dim]) return false;
    if (words[recordStrides(record) + dim] !== strides[dim]) return false;
  }
  return true;
}
