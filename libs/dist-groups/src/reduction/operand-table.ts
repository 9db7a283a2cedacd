import { DTYPE_BYTES, type DType, type Tensor } from "@lockstep/tensor";
import { DTYPE_CODES, FOLD_CODES, type Fold, MAX_DIMS } from "../wire/collective-header.ts";
import { recordAddress, recordStrides } from "../wire/tensor-record.ts";
import type { ReduceKernels } from "./reduce.ts";

const OPERANDS = 2 * MAX_DIMS;
const OPERAND_WORDS = 1 + MAX_DIMS;

/** Words of an operand table that folds what `sources` ranks bring. */
export function operandTableWords(sources: number): number {
  return OPERANDS + (sources + 1) * OPERAND_WORDS;
}

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

  /** Operand `k` is the tensor of a record (see wire/tensor-record.ts), from index `start` of dimension `axis`. */
  record(k: number, record: number, axis: number, start: number): void {
    const at = this.#operand(k);
    const strides = recordStrides(record);
    for (let dim = 0; dim < this.#dims; dim++) this.#words[at + 1 + dim] = this.#words[strides + dim] ?? 0;
    const step = start === 0 ? 0 : (this.#words[strides + axis] ?? 0);
    this.#words[at] = recordAddress(this.#words, record) + start * step * this.#elementBytes;
  }

  /**
   * Operand `k` is the tensor of a record, read as contiguous elements from element `start` on. The table has one
   * dimension.
   */
  flat(k: number, record: number, start: number): void {
    const at = this.#operand(k);
    this.#words[at] = recordAddress(this.#words, record) + start * this.#elementBytes;
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

  /**
   * Operand 0 = operand 1 op ... op operand `sources`, folded from left to right; a world-invariant sum in no order.
   */
  fold(sources: number, fold: Fold): void {
    this.#kernels.fold(this.#address, this.#dims, sources, DTYPE_CODES[this.#dtype], FOLD_CODES[fold]);
  }
}
