// A tensor record tells peers about a tensor of its rank:
//
//   0 dtype | dimensions << 8      compared
//   1 byte address                 not compared
//   2 ...  shape                   compared
//   2 + MAX_DIMS ...  strides      not compared
//   2 + 2 * MAX_DIMS  1 when the address is relative to the record, which is so for what is packed behind it: it then
//                     leads there wherever the records and what is packed lie; 0 otherwise     not compared

import { DTYPES, formatShape, type Tensor } from "@lockstep/tensor";
import { DTYPE_CODES, MAX_DIMS, writeIfNew } from "./collective-header.ts";

const ADDRESS = 1;
const SHAPE = 2;
const STRIDES = SHAPE + MAX_DIMS;
const IS_RELATIVE = STRIDES + MAX_DIMS;
/** Words of a tensor record: dtype and dims, byte address, shape, strides, what the address is relative to. */
export const TENSOR_RECORD_WORDS = IS_RELATIVE + 1;

/** Word offset of record `index` of a staging area that starts at word `staging`. */
export function recordWord(staging: number, index: number): number {
  return staging + index * TENSOR_RECORD_WORDS;
}

/** Describes a tensor to the peers: dtype and dimensions, byte address, shape, strides. */
export function writeTensorRecord(words: Int32Array, record: number, tensor: Tensor): void {
  const { shape, strides } = tensor;
  writeIfNew(words, record, DTYPE_CODES[tensor.dtype] | (shape.length << 8));
  writeIfNew(words, record + ADDRESS, tensor.byteOffset | 0);
  for (let dim = 0; dim < shape.length; dim++) {
    writeIfNew(words, record + SHAPE + dim, shape[dim] ?? 0);
    writeIfNew(words, record + STRIDES + dim, strides[dim] ?? 0);
  }
  writeIfNew(words, record + IS_RELATIVE, 0);
}

/**
 * Like {@link writeTensorRecord}, for a row-major copy of `tensor` at byte address `address`, which travels together
 * with the record.
 */
export function writePackedRecord(words: Int32Array, record: number, tensor: Tensor, address: number): void {
  const { shape } = tensor;
  writeIfNew(words, record, DTYPE_CODES[tensor.dtype] | (shape.length << 8));
  writeIfNew(words, record + ADDRESS, (address - wordAddress(words, record)) | 0);
  writeIfNew(words, record + IS_RELATIVE, 1);
  let step = 1;
  for (let dim = shape.length - 1; dim >= 0; dim--) {
    const size = shape[dim] ?? 0;
    writeIfNew(words, record + SHAPE + dim, size);
    writeIfNew(words, record + STRIDES + dim, step);
    step *= size;
  }
}

/** Byte address of the tensor of a record. */
export function recordAddress(words: Int32Array, record: number): number {
  const address = words[record + ADDRESS] ?? 0;
  return (words[record + IS_RELATIVE] === 0 ? address : address + wordAddress(words, record)) >>> 0;
}

function wordAddress(words: Int32Array, word: number): number {
  return words.byteOffset + word * 4;
}

/** Makes a record lead to another byte address, taken modulo 2^32. */
export function setRecordAddress(words: Int32Array, record: number, address: number): void {
  words[record + ADDRESS] = address;
  words[record + IS_RELATIVE] = 0;
}

/** Makes a record lead to where another one of the same tensor leads. */
export function copyRecordLead(words: Int32Array, from: number, to: number): void {
  setRecordAddress(words, to, recordAddress(words, from));
  const dims = (words[from] ?? 0) >>> 8;
  for (let dim = 0; dim < dims; dim++) words[to + STRIDES + dim] = words[from + STRIDES + dim] ?? 0;
}

/** First word of the strides of a record, in elements. */
export function recordStrides(record: number): number {
  return record + STRIDES;
}

/** First word of the shape of a record. */
export function recordShape(record: number): number {
  return record + SHAPE;
}

/** True when two tensor records have the same dtype and shape. */
export function recordsAgree(words: Int32Array, a: number, b: number): boolean {
  const head = words[a] ?? 0;
  if (head !== words[b]) return false;
  const end = SHAPE + (head >>> 8);
  for (let at = SHAPE; at < end; at++) if (words[a + at] !== words[b + at]) return false;
  return true;
}

/** Dtype and shape of a tensor record, for people: `f32 [2, 3]`. */
export function describeRecord(words: Int32Array, record: number): string {
  const head = words[record] ?? 0;
  const dims = Math.min(head >>> 8, MAX_DIMS);
  const shape = Array.from({ length: dims }, (_, dim) => words[record + SHAPE + dim] ?? 0);
  return `${DTYPES[head & 0xff] ?? "?"} ${formatShape(shape)}`;
}
