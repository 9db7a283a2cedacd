import { checkDType, checkNumbers } from "./check-tensor-arguments.ts";
import { copyRows } from "./copy-rows.ts";
import { describe } from "./describe.ts";
import { DTYPE_BYTES, type DType, type ElementArray, elementArray } from "./dtype.ts";
import { decoder, encoder } from "./element-codec.ts";
import { ArgumentError, InvalidFree, UseAfterFree } from "./errors.ts";
import { isSameView, overlaps } from "./overlap.ts";
import {
  checkShape,
  contiguousStrides,
  elementCount,
  forEachOffset,
  formatShape,
  isContiguous,
  spannedElements,
} from "./shape.ts";
import { type Allocator, checkAllocator, SharedHeap } from "./shared-heap.ts";
import { Storage } from "./storage.ts";
import { checkDescriptor, type TensorDescriptor } from "./tensor-descriptor.ts";

/**
 * A strided view of typed elements in a shared heap. Views share bytes; only `contiguous` and `copyFrom` copy. Whatever
 * reads, writes or views the elements of a tensor that was freed, of a view of one, or of a tensor whose arena took its
 * bytes back, throws UseAfterFree.
 */
export class Tensor {
  /** Of its elements. */
  readonly dtype: DType;
  /** Sizes of its dimensions, the outermost first. */
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** The heap whose memory holds it. */
  readonly heap: SharedHeap;
  /** Byte offset of the first element within the heap's memory: what kernels get as a pointer. */
  readonly byteOffset: number;
  /** Number of elements. */
  readonly size: number;
  /** True when the elements lie in row-major order without gaps. */
  readonly isContiguous: boolean;
  readonly #storage: Storage | undefined;
  readonly #isView: boolean;
  #elements: ElementArray | undefined;
  #byteEnd = -1;

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

  /** A contiguous tensor with undefined contents. @throws ArgumentError, HeapExhausted */
  static empty(allocator: Allocator, dtype: DType, shape: readonly number[]): Tensor {
    return Tensor.#allocate("Tensor.empty", allocator, dtype, shape);
  }

  static #allocate(
    operation: string,
    allocator: Allocator,
    dtype: DType,
    shape: readonly number[],
    zeros = false,
  ): Tensor {
    checkAllocator(operation, allocator);
    checkDType(operation, "dtype", dtype);
    checkShape(operation, "shape", shape);
    const storage = new Storage(allocator, elementCount(shape) * DTYPE_BYTES[dtype], zeros);
    return new Tensor(dtype, [...shape], contiguousStrides(shape), allocator.heap, storage.offset, storage, false);
  }

  /**
   * A contiguous tensor of zeros. In memory that was never used they take no time, and none of the machine's memory.
   */
  static zeros(allocator: Allocator, dtype: DType, shape: readonly number[]): Tensor {
    const tensor = Tensor.#allocate("Tensor.zeros", allocator, dtype, shape, true);
    if (allocator.allocateZeros === undefined) tensor.elements.fill(0);
    return tensor;
  }

  /** A contiguous tensor of the given numbers in row-major order, each rounded to `dtype`. */
  static from(allocator: Allocator, dtype: DType, shape: readonly number[], values: ArrayLike<number>): Tensor {
    checkShape("Tensor.from", "shape", shape);
    checkNumbers("Tensor.from", values, elementCount(shape), shape);
    const tensor = Tensor.#allocate("Tensor.from", allocator, dtype, shape);
    tensor.set(values);
    return tensor;
  }

  /** The tensor a descriptor describes, in `heap` (any range of the memory it lies in). It does not own its bytes. */
  static fromDescriptor(descriptor: TensorDescriptor, heap: SharedHeap): Tensor {
    if (!(heap instanceof SharedHeap)) {
      throw new ArgumentError("Tensor.fromDescriptor", "heap", "a SharedHeap", describe(heap));
    }
    checkDescriptor("Tensor.fromDescriptor", descriptor, heap);
    const { dtype, shape, strides, byteOffset } = descriptor;
    return new Tensor(dtype, [...shape], [...strides], heap, byteOffset, undefined, true);
  }

  /** True for a tensor, whatever `value` does when it is looked at: a proxy of one is none. */
  static isTensor(value: unknown): value is Tensor {
    return typeof value === "object" && value !== null && #storage in value;
  }

  /** Where it lies, as plain data that crosses to a worker, which opens it with `Tensor.fromDescriptor`. */
  get descriptor(): TensorDescriptor {
    this.assertUsable("Tensor.descriptor");
    return {
      dtype: this.dtype,
      shape: this.shape,
      strides: this.strides,
      heapId: this.heap.id,
      byteOffset: this.byteOffset,
    };
  }

  /**
   * True once the bytes were given back: it, or the tensor that it is a view of, was freed, or its arena was reset or
   * closed. Of a tensor made from a descriptor nobody knows: always false.
   */
  get isFreed(): boolean {
    return this.#storage !== undefined && !this.#storage.isLive;
  }

  /** Throws UseAfterFree, naming the function that was called and its argument, when {@link Tensor.isFreed}. */
  assertUsable(operation: string, argument = "this"): void {
    if (this.#storage !== undefined && !this.#storage.isLive) {
      throw new UseAfterFree(operation, argument, this.toString());
    }
  }

  /** Number of dimensions. */
  get rank(): number {
    return this.shape.length;
  }

  /** Byte offset, within the heap's memory, one past the last element; `byteOffset` when there is none. */
  get byteEnd(): number {
    if (this.#byteEnd < 0) {
      this.#byteEnd = this.byteOffset + spannedElements(this.shape, this.strides) * DTYPE_BYTES[this.dtype];
    }
    return this.#byteEnd;
  }

  /** Where its bytes lie: in a heap. Tensors of a GPU say "device". */
  get place(): "heap" {
    return "heap";
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
    this.assertUsable("Tensor.elements");
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
    this.assertUsable("Tensor.bytes");
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
        `${describe(start)}, ${describe(end)}, ${describe(step)}`,
      );
    }
    const stride = this.strides[at] ?? 0;
    const count = Math.ceil((end - start) / step);
    const shape = replaced(this.shape, at, count);
    return this.#view("slice", shape, replaced(this.strides, at, count > 1 ? stride * step : stride), start * stride);
  }

  /** Index `index` of dimension `dim`, which disappears. */
  select(dim: number, index: number): Tensor {
    const at = this.#dimension("select", dim);
    const size = this.shape[at] ?? 0;
    if (!Number.isInteger(index) || index < 0 || index >= size) {
      throw new ArgumentError("Tensor.select", "index", `an integer from 0 to ${size - 1}`, describe(index));
    }
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
    return this.#view("reshape", [...shape], contiguousStrides(shape), 0);
  }

  /** Without dimension `dim`, which must have size 1. */
  squeeze(dim: number): Tensor {
    const at = this.#dimension("squeeze", dim);
    if (this.shape[at] !== 1) {
      throw new ArgumentError("Tensor.squeeze", "dim", "a dimension of size 1", `${at} of ${formatShape(this.shape)}`);
    }
    const keep = (_: number, index: number): boolean => index !== at;
    return this.#view("squeeze", this.shape.filter(keep), this.strides.filter(keep), 0);
  }

  /** With a new dimension of size 1 before dimension `dim`. */
  unsqueeze(dim: number): Tensor {
    if (!Number.isInteger(dim) || dim < 0 || dim > this.rank) {
      throw new ArgumentError("Tensor.unsqueeze", "dim", `an integer from 0 to ${this.rank}`, describe(dim));
    }
    return this.#view("unsqueeze", this.shape.toSpliced(dim, 0, 1), this.strides.toSpliced(dim, 0, 0), 0);
  }

  /** With dimensions `a` and `b` exchanged. */
  transpose(a: number, b: number): Tensor {
    const first = this.#dimension("transpose", a);
    const second = this.#dimension("transpose", b);
    const swap = (list: readonly number[]): number[] =>
      list.map((value, index) => (index === first ? list[second] : index === second ? list[first] : value) ?? 0);
    return this.#view("transpose", swap(this.shape), swap(this.strides), 0);
  }

  /** This tensor if it is contiguous, else a contiguous copy from `allocator`. */
  contiguous(allocator: Allocator): Tensor {
    this.assertUsable("Tensor.contiguous");
    return this.isContiguous ? this : this.clone(allocator);
  }

  /** A contiguous copy from `allocator`. */
  clone(allocator: Allocator): Tensor {
    this.assertUsable("Tensor.clone");
    const copy = Tensor.#allocate("Tensor.clone", allocator, this.dtype, this.shape);
    copy.copyFrom(this);
    return copy;
  }

  /**
   * Copies the elements of a tensor of the same shape, bit for bit when the dtypes agree, else rounded. The two may
   * overlap: what is copied is what the source held before.
   */
  copyFrom(source: Tensor): this {
    if (!(source instanceof Tensor)) {
      throw new ArgumentError("Tensor.copyFrom", "source", "a tensor", describe(source));
    }
    this.assertUsable("Tensor.copyFrom");
    source.assertUsable("Tensor.copyFrom", "source");
    if (source.rank !== this.rank || source.shape.some((size, dim) => size !== this.shape[dim])) {
      throw new ArgumentError("Tensor.copyFrom", "source", `of shape ${formatShape(this.shape)}`, source.toString());
    }
    if (source.dtype !== this.dtype) return this.set(source.toNumbers());
    if (isSameView(this, source) && this.heap.id === source.heap.id) return this;
    const isOverlapping = this.heap.id === source.heap.id && overlaps(this, source);
    const bits = isOverlapping ? source.#bits.slice() : source.#bits;
    copyRows(this.shape, bits, source.strides, this.#bits, this.strides);
    return this;
  }

  /** Writes numbers in row-major order, each rounded to the dtype. */
  set(values: ArrayLike<number>): this {
    checkNumbers("Tensor.set", values, this.size);
    const elements = this.elements;
    const encode = encoder(this.dtype);
    const numbers = isArrayOver(values, elements) ? values.slice() : values;
    forEachOffset(this.shape, this.strides, (offset, index) => {
      elements[offset] = encode(numbers[index] ?? 0);
    });
    return this;
  }

  /** Writes `value`, rounded to the dtype, everywhere. */
  fill(value: number): this {
    if (typeof value !== "number") throw new ArgumentError("Tensor.fill", "value", "a number", describe(value));
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
    let isWithin = index.length === this.rank;
    let offset = 0;
    for (let dim = 0; isWithin && dim < this.rank; dim++) {
      const position = index[dim] ?? -1;
      isWithin = Number.isInteger(position) && position >= 0 && position < (this.shape[dim] ?? 0);
      if (isWithin) offset += position * (this.strides[dim] ?? 0);
    }
    if (!isWithin) {
      const received = `[${index.map(describe).join(", ")}]`;
      throw new ArgumentError("Tensor.at", "index", `integers within ${formatShape(this.shape)}`, received);
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
    if (!storage.isLive) {
      throw new InvalidFree("Tensor", this.byteOffset, "it was freed before, or its arena was reset or closed");
    }
    storage.free();
  }

  /** `f32 [2, 3]`, with the strides when they are not row-major. */
  toString(): string {
    const strides = this.isContiguous ? "" : ` with strides ${formatShape(this.strides)}`;
    return `${this.dtype} ${formatShape(this.shape)}${strides}`;
  }

  #view(operation: string, shape: readonly number[], strides: readonly number[], elementOffset: number): Tensor {
    this.assertUsable(`Tensor.${operation}`);
    // Views without elements stay where they are: an offset may lead out of the memory.
    const moved = shape.includes(0) ? 0 : elementOffset * DTYPE_BYTES[this.dtype];
    return new Tensor(this.dtype, shape, strides, this.heap, this.byteOffset + moved, this.#storage, true);
  }

  #dimension(operation: string, dim: number): number {
    // What is no number may throw where it is compared with one.
    const at = Number.isInteger(dim) ? (dim < 0 ? dim + this.rank : dim) : -1;
    if (at < 0 || at >= this.rank) {
      throw new ArgumentError(`Tensor.${operation}`, "dim", `a dimension of ${formatShape(this.shape)}`, describe(dim));
    }
    return at;
  }
}

function replaced(list: readonly number[], at: number, value: number): number[] {
  return list.map((old, index) => (index === at ? value : old));
}

/** True for a typed array that shares bytes with `elements`: writing them would change it. */
function isArrayOver(values: ArrayLike<number>, elements: ElementArray): values is ElementArray {
  return (
    ArrayBuffer.isView(values) &&
    values.buffer === elements.buffer &&
    values.byteOffset < elements.byteOffset + elements.byteLength &&
    elements.byteOffset < values.byteOffset + values.byteLength
  );
}
