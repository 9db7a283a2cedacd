import { DTYPE_BYTES, type DType, type Tensor } from "@lockstep/tensor";
import { MAX_DIMS, TENSOR_RECORD_WORDS } from "../transport/shared-memory/control-block.ts";
import {
  DTYPE_CODES,
  type Reduction,
  REDUCTION_CODES,
  writeIfNew,
} from "../transport/shared-memory/collective-header.ts";
import type { ReduceKernels } from "./reduce.ts";

const OPERANDS = 2 * MAX_DIMS;
const OPERAND_WORDS = 1 + MAX_DIMS;

/**
 * Fills the operand table that the copy and fold kernels read: a shape, then the address and the strides of every
 * operand. Operand 0 is the destination. Nothing is allocated: the table lies in shared memory, private to this rank.
 */
export class OperandTable {
  readonly #kernels: ReduceKernels;
  readonly #words: Int32Array;
  readonly #table: number;
  readonly #address: number;
  #dtype: DType = "u8";
  #elementBytes = 1;
  #dims = 0;

  /** `table`: first word of the table within `words`; `address`: the same as a byte address in the memory. */
  constructor(kernels: ReduceKernels, words: Int32Array, table: number, address: number) {
    this.#kernels = kernels;
    this.#words = words;
    this.#table = table;
    this.#address = address;
  }

  /** Starts a table over `shape`, with dimension `axis` (none when negative) cut down to `axisLength`. */
  begin(dtype: DType, shape: readonly number[], axis: number, axisLength: number): void {
    this.#dtype = dtype;
    this.#elementBytes = DTYPE_BYTES[dtype];
    this.#dims = shape.length;
    for (let dim = 0; dim < shape.length; dim++) {
      this.#words[this.#table + dim] = dim === axis ? axisLength : (shape[dim] ?? 0);
    }
  }

  #operand(k: number): number {
    return this.#table + OPERANDS + k * OPERAND_WORDS;
  }

  /** Operand `k` is a tensor, from index `start` of dimension `axis`. */
  tensor(k: number, tensor: Tensor, axis: number, start: number): void {
    const at = this.#operand(k);
    const strides = tensor.strides;
    for (let dim = 0; dim < this.#dims; dim++) this.#words[at + 1 + dim] = strides[dim] ?? 0;
    this.#words[at] = tensor.byteOffset + start * (strides[axis] ?? 0) * this.#elementBytes;
  }

  /** Operand `k` is the tensor of a record (see {@link writeTensorRecord}), from index `start` of dimension `axis`. */
  record(k: number, record: number, axis: number, start: number): void {
    const at = this.#operand(k);
    const strides = record + 2 + MAX_DIMS;
    for (let dim = 0; dim < this.#dims; dim++) this.#words[at + 1 + dim] = this.#words[strides + dim] ?? 0;
    const step = start === 0 ? 0 : (this.#words[strides + axis] ?? 0);
    this.#words[at] = (this.#words[record + 1] ?? 0) + start * step * this.#elementBytes;
  }

  /** Operand `k` is the tensor of a record, read as contiguous elements from element `start` on. The table has one dimension. */
  flat(k: number, record: number, start: number): void {
    const at = this.#operand(k);
    this.#words[at] = (this.#words[record + 1] ?? 0) + start * this.#elementBytes;
    this.#words[at + 1] = 1;
  }

  /**
   * Operand `k` is packed in row-major order at byte address `address`, with the table's shape but `axisLength` long in
   * dimension `axis`; it is read from index `start` of that dimension.
   */
  packed(k: number, address: number, axis: number, axisLength: number, start: number): void {
    const at = this.#operand(k);
    let step = 1;
    let offset = 0;
    for (let dim = this.#dims - 1; dim >= 0; dim--) {
      this.#words[at + 1 + dim] = step;
      if (dim === axis) {
        offset = start * step;
        step *= axisLength;
      } else step *= this.#words[this.#table + dim] ?? 0;
    }
    this.#words[at] = address + offset * this.#elementBytes;
  }

  /** Operand 0 = operand 1, bit for bit. */
  copy(): void {
    this.#kernels.copy(this.#address, this.#dims, this.#elementBytes);
  }

  /** Operand 0 = operand 1 op ... op operand `sources`, folded from left to right. */
  fold(sources: number, reduction: Reduction): void {
    this.#kernels.fold(this.#address, this.#dims, sources, DTYPE_CODES[this.#dtype], REDUCTION_CODES[reduction]);
  }
}

/** Describes a tensor to the peers: dtype and dimensions, byte address, shape, strides. */
export function writeTensorRecord(words: Int32Array, record: number, tensor: Tensor): void {
  const { shape, strides } = tensor;
  writeIfNew(words, record, DTYPE_CODES[tensor.dtype] | (shape.length << 8));
  writeIfNew(words, record + 1, tensor.byteOffset | 0);
  for (let dim = 0; dim < shape.length; dim++) {
    writeIfNew(words, record + 2 + dim, shape[dim] ?? 0);
    writeIfNew(words, record + 2 + MAX_DIMS + dim, strides[dim] ?? 0);
  }
}

/** Byte address of the tensor of a record. */
export function recordAddress(words: Int32Array, record: number): number {
  return (words[record + 1] ?? 0) >>> 0;
}

/** Like {@link writeTensorRecord}, for a row-major copy of `tensor` at byte address `address`. */
export function writePackedRecord(words: Int32Array, record: number, tensor: Tensor, address: number): void {
  const { shape } = tensor;
  writeIfNew(words, record, DTYPE_CODES[tensor.dtype] | (shape.length << 8));
  writeIfNew(words, record + 1, address | 0);
  let step = 1;
  for (let dim = shape.length - 1; dim >= 0; dim--) {
    const size = shape[dim] ?? 0;
    writeIfNew(words, record + 2 + dim, size);
    writeIfNew(words, record + 2 + MAX_DIMS + dim, step);
    step *= size;
  }
}

/** Word offset of record `index` of a slot whose staging area starts at word `staging`. */
export function recordWord(staging: number, index: number): number {
  return staging + index * TENSOR_RECORD_WORDS;
}
