import { DTYPE_BYTES, DTYPES } from "@lockstep/tensor";
import { recordAddress, recordShape, recordStrides, setRecordAddress } from "../../wire/tensor-record.ts";
import { FLAT, WHOLE } from "../transport.ts";

/** A slice of the tensor of a record. */
export interface TensorSlice {
  readonly elementBytes: number;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** Byte address of its first element. */
  readonly address: number;
  /** Bytes of its elements, packed. */
  readonly bytes: number;
}

/** The slice that {@link SliceExchange.give} and `take` mean. */
export function tensorSlice(
  words: Int32Array,
  record: number,
  axis: number,
  start: number,
  count: number,
): TensorSlice {
  const head = words[record] ?? 0;
  const dims = head >>> 8;
  const elementBytes = DTYPE_BYTES[DTYPES[head & 0xff] ?? "u8"];
  const from = recordAddress(words, record);
  const shape: number[] = [];
  const strides: number[] = [];
  let skipped = 0;
  if (axis === FLAT) {
    shape.push(count);
    strides.push(1);
    skipped = start;
  } else {
    for (let dim = 0; dim < dims; dim++) {
      shape.push(words[recordShape(record) + dim] ?? 0);
      strides.push(words[recordStrides(record) + dim] ?? 0);
    }
    if (axis !== WHOLE) {
      shape[axis] = count;
      skipped = start * (strides[axis] ?? 0);
    }
  }
  const elements = shape.reduce((product, length) => product * length, 1);
  return { elementBytes, shape, strides, address: from + skipped * elementBytes, bytes: elements * elementBytes };
}

/** True when the elements of a slice lie in a row, in order. */
export function isPacked({ shape, strides }: TensorSlice): boolean {
  let step = 1;
  for (let dim = shape.length - 1; dim >= 0; dim--) {
    const length = shape[dim] ?? 0;
    if (length !== 1 && strides[dim] !== step) return false;
    step *= length;
  }
  return true;
}

/** Copies the elements of a slice, in order, to byte address `to` of the same memory. */
export function packSlice(buffer: ArrayBufferLike, slice: TensorSlice, to: number): void {
  const { shape, strides, elementBytes, address, bytes } = slice;
  if (bytes === 0) return;
  const memory = new Uint8Array(buffer);
  // The last dimensions whose elements lie in a row make runs.
  let run = 1;
  let outer = shape.length;
  while (outer > 0 && (shape[outer - 1] === 1 || strides[outer - 1] === run)) run *= shape[--outer] ?? 1;
  const runBytes = run * elementBytes;
  const index = new Array<number>(outer).fill(0);
  for (let at = to; at < to + bytes; at += runBytes) {
    let offset = 0;
    for (let dim = 0; dim < outer; dim++) offset += (index[dim] ?? 0) * (strides[dim] ?? 0);
    const from = address + offset * elementBytes;
    memory.copyWithin(at, from, from + runBytes);
    for (let dim = outer - 1; dim >= 0; dim--) {
      const next = (index[dim] ?? 0) + 1;
      index[dim] = next === shape[dim] ? 0 : next;
      if (next !== shape[dim]) break;
    }
  }
}

/**
 * Makes a record lead to its slice, which lies packed at byte address `landing`: address and strides become those that
 * the whole tensor would have if the rest of it were there too.
 */
export function leadToLanding(
  words: Int32Array,
  record: number,
  axis: number,
  start: number,
  slice: TensorSlice,
  landing: number,
): void {
  let step = 1;
  let skipped = axis === FLAT ? start : 0;
  for (let dim = slice.shape.length - 1; axis !== FLAT && dim >= 0; dim--) {
    words[recordStrides(record) + dim] = step;
    if (dim === axis) skipped = start * step;
    step *= slice.shape[dim] ?? 0;
  }
  setRecordAddress(words, record, landing - skipped * slice.elementBytes);
}
