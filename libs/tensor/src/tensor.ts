import { DTYPE_BYTES, type DType, type ElementArray, elementArray } from "./dtype.ts";
import { ArgumentError, InvalidFree } from "./errors.ts";
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from "./float16.ts";
import { float8ToNumber, numberToFloat8 } from "./float8.ts";
import {
  checkShape,
  contiguousStrides,
  elementCount,
  forEachOffset,
  formatShape,
  isContiguous,
  spannedElements,
} from "./shape.ts";
import type { Allocator, SharedHeap } from "./shared-heap.ts";

/** What crosses to a worker instead of a copy: where a tensor's bytes lie and how to read them. Plain data. */
export interface TensorDescriptor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** Id of the memory the bytes lie in ({@link SharedHeap.id}). */
  readonly heapId: string;
  /** Byte offset of the first element within that memory. */
  readonly byteOffset: number;
}

/** Who gives a tensor's bytes back: shared by the tensor and every view of it. */
interface Storage {
  readonly allocator: Allocator;
  readonly offset: number;
  freed: boolean;
}

/** A strided view of typed elements in a shared heap. Views share bytes; only `contiguous` and `copyFrom` copy. */
export class Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  readonly heap: SharedHeap;
  /** Byte offset of the first element within the heap's memory: what kernels get as a pointer. */
  readonly byteOffset: number;
  /** Number of elements. */
  readonly size: number;
  readonly isContiguous: boolean;
  readonly #storage: Storage | undefined;
  readonly #isView: boolean;
  #elements: ElementArray | undefined;

  private constructor(
    dtype: DType,
    shape: readonly number[],
    strides: readonly number[],
    heap: SharedHeap,
    byteOffset: number,
    storage: Storage | undefined,
    isView: boolean,
  ) {
    this.dtype = dtype;
    this.shape = shape;
    this.strides = strides;
    this.heap = heap;
    this.byteOffset = byteOffset;
    this.size = elementCount(shape);
    this.isContiguous = isContiguous(shape, strides);
    this.#storage = storage;
    this.#isView = isView;
  }

  /** A contiguous tensor with undefined contents. */
  static empty(allocator: Allocator, dtype: DType, shape: readonly number[]): Tensor {
    checkShape("Tensor.empty", "shape", shape);
    const offset = allocator.allocate(elementCount(shape) * DTYPE_BYTES[dtype]);
    const storage = { allocator, offset, freed: false };
    return new Tensor(dtype, [...shape], contiguousStrides(shape), allocator.heap, offset, storage, false);
  }

  /** A contiguous tensor of zeros. */
  static zeros(allocator: Allocator, dtype: DType, shape: readonly number[]): Tensor {
    const tensor = Tensor.empty(allocator, dtype, shape);
    tensor.elements.fill(0);
    return tensor;
  }

  /** A contiguous tensor of the given numbers in row-major order, each rounded to `dtype`. */
  static from(allocator: Allocator, dtype: DType, shape: readonly number[], values: ArrayLike<number>): Tensor {
    checkShape("Tensor.from", "shape", shape);
    if (values.length !== elementCount(shape)) {
      throw new ArgumentError(
        "Tensor.from",
        "values",
        `${elementCount(shape)} numbers for shape ${formatShape(shape)}`,
        `${values.length} numbers`,
      );
    }
    const tensor = Tensor.empty(allocator, dtype, shape);
    tensor.set(values);
    return tensor;
  }

  /** The tensor a descriptor describes, in `heap` (any range of the memory it lies in). It does not own its bytes. */
  static fromDescriptor(descriptor: TensorDescriptor, heap: SharedHeap): Tensor {
    if (descriptor.heapId !== heap.id) {
      throw new ArgumentError("Tensor.fromDescriptor", "heap", `the memory ${descriptor.heapId}`, heap.id);
    }
    const bytes = spannedElements(descriptor.shape, descriptor.strides) * DTYPE_BYTES[descriptor.dtype];
    if (descriptor.byteOffset < 0 || descriptor.byteOffset + bytes > heap.buffer.byteLength) {
      throw new ArgumentError(
        "Tensor.fromDescriptor",
        "descriptor",
        `within the ${heap.buffer.byteLength} bytes of the memory`,
        `bytes [${descriptor.byteOffset}, ${descriptor.byteOffset + bytes})`,
      );
    }
    const { dtype, shape, strides, byteOffset } = descriptor;
    return new Tensor(dtype, [...shape], [...strides], heap, byteOffset, undefined, true);
  }

  get descriptor(): TensorDescriptor {
    return {
      dtype: this.dtype,
      shape: this.shape,
      strides: this.strides,
      heapId: this.heap.id,
      byteOffset: this.byteOffset,
    };
  }

  get rank(): number {
    return this.shape.length;
  }

  /** Bytes its elements take when contiguous. */
  get byteLength(): number {
    return this.size * DTYPE_BYTES[this.dtype];
  }

  /** Size of dimension `dim`; negative counts from the end. */
  dim(dim: number): number {
    return this.shape[this.#dimension("dim", dim)] ?? 0;
  }

  /** Stride of dimension `dim` in elements; negative counts from the end. */
  stride(dim: number): number {
    return this.strides[this.#dimension("stride", dim)] ?? 0;
  }

  /**
   * Raw elements from the first to the last this view touches (a strided view's gaps included); f16 and bf16 as
   * 16-bit patterns. Cached: the same array on every call.
   */
  get elements(): ElementArray {
    this.#elements ??= elementArray(
      this.dtype,
      this.heap.buffer,
      this.byteOffset,
      spannedElements(this.shape, this.strides),
    );
    return this.#elements;
  }

  /** The elements as bit patterns: a NaN keeps its payload, which it may lose as a JavaScript number. */
  get #bits(): ElementArray {
    const elements = this.elements;
    if (!(elements instanceof Float32Array)) return elements;
    return new Uint32Array(elements.buffer, elements.byteOffset, elements.length);
  }

  /** The elements as f32, for a contiguous f32 tensor. */
  get f32(): Float32Array {
    return this.#typed("f32", Float32Array);
  }

  /** The elements as i32, for a contiguous i32 tensor. */
  get i32(): Int32Array {
    return this.#typed("i32", Int32Array);
  }

  /** The bytes of a contiguous tensor of any dtype. */
  get bytes(): Uint8Array {
    if (!this.isContiguous) {
      throw new ArgumentError("Tensor.bytes", "this", "contiguous", this.toString(), "Call contiguous() first.");
    }
    return new Uint8Array(this.heap.buffer, this.byteOffset, this.byteLength);
  }

  #typed<A extends ElementArray>(dtype: DType, kind: abstract new (...args: never[]) => A): A {
    const elements = this.elements;
    if (!(elements instanceof kind) || this.dtype !== dtype || !this.isContiguous) {
      throw new ArgumentError(`Tensor.${dtype}`, "this", `a contiguous ${dtype} tensor`, this.toString());
    }
    return elements;
  }

  /** Indexes [start, end) of dimension `dim`, every `step`-th. */
  slice(dim: number, start: number, end: number, step = 1): Tensor {
    const at = this.#dimension("slice", dim);
    const size = this.shape[at] ?? 0;
    if (![start, end, step].every(Number.isInteger) || start < 0 || end < start || end > size || step < 1) {
      throw new ArgumentError(
        "Tensor.slice",
        "start, end, step",
        `0 <= start <= end <= ${size} and step >= 1`,
        `${start}, ${end}, ${step}`,
      );
    }
    const stride = this.strides[at] ?? 0;
    const shape = replaced(this.shape, at, Math.ceil((end - start) / step));
    return this.#view(shape, replaced(this.strides, at, stride * step), start * stride);
  }

  /** Index `index` of dimension `dim`, which disappears. */
  select(dim: number, index: number): Tensor {
    const at = this.#dimension("select", dim);
    return this.slice(at, index, index + 1).squeeze(at);
  }

  /** The same elements under another shape. Needs no copy, or throws: call `contiguous()` first for odd strides. */
  reshape(shape: readonly number[]): Tensor {
    checkShape("Tensor.reshape", "shape", shape);
    if (elementCount(shape) !== this.size) {
      throw new ArgumentError("Tensor.reshape", "shape", `of ${this.size} elements`, formatShape(shape));
    }
    if (!this.isContiguous) {
      throw new ArgumentError(
        "Tensor.reshape",
        "this",
        "contiguous",
        this.toString(),
        "Call contiguous(allocator) first.",
      );
    }
    return this.#view([...shape], contiguousStrides(shape), 0);
  }

  /** Without dimension `dim`, which must have size 1. */
  squeeze(dim: number): Tensor {
    const at = this.#dimension("squeeze", dim);
    if (this.shape[at] !== 1) {
      throw new ArgumentError("Tensor.squeeze", "dim", "a dimension of size 1", `${at} of ${formatShape(this.shape)}`);
    }
    const keep = (_: number, index: number): boolean => index !== at;
    return this.#view(this.shape.filter(keep), this.strides.filter(keep), 0);
  }

  /** With a new dimension of size 1 before dimension `dim`. */
  unsqueeze(dim: number): Tensor {
    if (!Number.isInteger(dim) || dim < 0 || dim > this.rank) {
      throw new ArgumentError("Tensor.unsqueeze", "dim", `from 0 to ${this.rank}`, String(dim));
    }
    return this.#view(this.shape.toSpliced(dim, 0, 1), this.strides.toSpliced(dim, 0, 0), 0);
  }

  /** With dimensions `a` and `b` exchanged. */
  transpose(a: number, b: number): Tensor {
    const first = this.#dimension("transpose", a);
    const second = this.#dimension("transpose", b);
    const swap = (list: readonly number[]): number[] =>
      list.map((value, index) => (index === first ? list[second] : index === second ? list[first] : value) ?? 0);
    return this.#view(swap(this.shape), swap(this.strides), 0);
  }

  /** This tensor if it is contiguous, else a contiguous copy from `allocator`. */
  contiguous(allocator: Allocator): Tensor {
    return this.isContiguous ? this : this.clone(allocator);
  }

  /** A contiguous copy from `allocator`. */
  clone(allocator: Allocator): Tensor {
    const copy = Tensor.empty(allocator, this.dtype, this.shape);
    copy.copyFrom(this);
    return copy;
  }

  /** Copies the elements of a tensor of the same shape, bit for bit when the dtypes agree, else rounded. */
  copyFrom(source: Tensor): this {
    if (source.rank !== this.rank || source.shape.some((size, dim) => size !== this.shape[dim])) {
      throw new ArgumentError("Tensor.copyFrom", "source", `of shape ${formatShape(this.shape)}`, source.toString());
    }
    if (source.dtype !== this.dtype) return this.set(source.toNumbers());
    copyRows(this.shape, source.#bits, source.strides, this.#bits, this.strides);
    return this;
  }

  /** Writes numbers in row-major order, each rounded to the dtype. */
  set(values: ArrayLike<number>): this {
    if (values.length !== this.size) {
      throw new ArgumentError("Tensor.set", "values", `${this.size} numbers`, `${values.length} numbers`);
    }
    const elements = this.elements;
    const encode = encoder(this.dtype);
    forEachOffset(this.shape, this.strides, (offset, index) => {
      elements[offset] = encode(values[index] ?? 0);
    });
    return this;
  }

  /** Writes `value`, rounded to the dtype, everywhere. */
  fill(value: number): this {
    const elements = this.elements;
    const encoded = encoder(this.dtype)(value);
    if (this.isContiguous) elements.fill(encoded);
    else {
      forEachOffset(this.shape, this.strides, (offset) => {
        elements[offset] = encoded;
      });
    }
    return this;
  }

  /** The element at an index, as a number. */
  at(...index: number[]): number {
    let offset = 0;
    for (let dim = 0; dim < this.rank; dim++) {
      const position = index[dim] ?? -1;
      if (index.length !== this.rank || position < 0 || position >= (this.shape[dim] ?? 0)) {
        throw new ArgumentError("Tensor.at", "index", `within ${formatShape(this.shape)}`, formatShape(index));
      }
      offset += position * (this.strides[dim] ?? 0);
    }
    return decoder(this.dtype)(this.elements[offset] ?? 0);
  }

  /** Every element as a number, in row-major order. */
  toNumbers(): Float64Array {
    const numbers = new Float64Array(this.size);
    const elements = this.elements;
    const decode = decoder(this.dtype);
    forEachOffset(this.shape, this.strides, (offset, index) => {
      numbers[index] = decode(elements[offset] ?? 0);
    });
    return numbers;
  }

  /**
   * Gives the bytes back. Views of this tensor must not be used afterwards. Only the thread that allocated the tensor
   * may free it, and only through the tensor itself: freeing a view, or freeing twice, throws.
   */
  free(): void {
    const storage = this.#storage;
    if (storage === undefined || this.#isView) {
      throw new InvalidFree("Tensor", this.byteOffset, "this is a view; free the tensor it was taken from");
    }
    if (storage.freed) throw new InvalidFree("Tensor", this.byteOffset, "it was freed before");
    storage.freed = true;
    storage.allocator.release(storage.offset);
  }

  /** `f32 [2, 3]`, with the strides when they are not row-major. */
  toString(): string {
    const strides = this.isContiguous ? "" : ` with strides ${formatShape(this.strides)}`;
    return `${this.dtype} ${formatShape(this.shape)}${strides}`;
  }

  #view(shape: readonly number[], strides: readonly number[], elementOffset: number): Tensor {
    const offset = this.byteOffset + elementOffset * DTYPE_BYTES[this.dtype];
    return new Tensor(this.dtype, shape, strides, this.heap, offset, this.#storage, true);
  }

  #dimension(operation: string, dim: number): number {
    const at = dim < 0 ? dim + this.rank : dim;
    if (!Number.isInteger(dim) || at < 0 || at >= this.rank) {
      throw new ArgumentError(`Tensor.${operation}`, "dim", `a dimension of ${formatShape(this.shape)}`, String(dim));
    }
    return at;
  }
}

/** Copies elements of equal dtype row by row, where a row is the longest run that is contiguous on both sides. */
function copyRows(
  shape: readonly number[],
  from: ElementArray,
  fromStrides: readonly number[],
  to: ElementArray,
  toStrides: readonly number[],
): void {
  let row = 1;
  let outer = shape.length;
  while (outer > 0) {
    const size = shape[outer - 1] ?? 0;
    if (size !== 1 && (fromStrides[outer - 1] !== row || toStrides[outer - 1] !== row)) break;
    row *= size;
    outer--;
  }
  const walk = (dim: number, fromOffset: number, toOffset: number): void => {
    if (dim === outer) {
      if (row < 16) for (let index = 0; index < row; index++) to[toOffset + index] = from[fromOffset + index] ?? 0;
      else to.set(from.subarray(fromOffset, fromOffset + row), toOffset);
      return;
    }
    const [fromStride = 0, toStride = 0] = [fromStrides[dim], toStrides[dim]];
    const size = shape[dim] ?? 0;
    for (let index = 0; index < size; index++)
      walk(dim + 1, fromOffset + index * fromStride, toOffset + index * toStride);
  };
  walk(0, 0, 0);
}

function replaced(list: readonly number[], at: number, value: number): number[] {
  return list.map((old, index) => (index === at ? value : old));
}

/** Turns a raw element of `dtype` into the number it stands for. */
function decoder(dtype: DType): (raw: number) => number {
  if (dtype === "f16") return float16ToNumber;
  if (dtype === "bf16") return bfloat16ToNumber;
  if (dtype === "f8e4m3") return float8ToNumber;
  return (raw) => raw;
}

/** Turns a number into a raw element of `dtype`; integers follow the typed array's own conversion. */
function encoder(dtype: DType): (value: number) => number {
  if (dtype === "f16") return numberToFloat16;
  if (dtype === "bf16") return numberToBfloat16;
  if (dtype === "f8e4m3") return numberToFloat8;
  return (value) => value;
}
