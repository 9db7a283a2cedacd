import { ArgumentError, contiguousStrides, DTYPE_BYTES, type DType, elementCount, formatShape } from "@lockstep/tensor";

/** A tensor whose bytes stay on a GPU, as a strided view of a GPUBuffer. Made by the `webgpu` backend's `empty`. */
export class GpuTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  readonly buffer: GPUBuffer;
  /** Element offset of the first element within the buffer. */
  readonly elementOffset: number;
  readonly size: number;
  /** True when the elements lie in row-major order without gaps. */
  readonly isContiguous: boolean;
  readonly #destroy: () => void;

  /** A view of `buffer`. `destroy` is what {@link GpuTensor.free} does; default: it destroys the buffer. */
  constructor(
    buffer: GPUBuffer,
    dtype: DType,
    shape: readonly number[],
    strides: readonly number[] = contiguousStrides(shape),
    elementOffset = 0,
    destroy: () => void = () => buffer.destroy(),
  ) {
    this.buffer = buffer;
    this.dtype = dtype;
    this.shape = shape;
    this.strides = strides;
    this.elementOffset = elementOffset;
    this.size = elementCount(shape);
    const rowMajor = contiguousStrides(shape);
    this.isContiguous =
      this.size === 0 || shape.every((size, dim) => size === 1 || strides[dim] === (rowMajor[dim] ?? 0));
    this.#destroy = destroy;
  }

  get byteLength(): number {
    return this.size * DTYPE_BYTES[this.dtype];
  }

  /** Indexes [start, end) of dimension `dim`. */
  slice(dim: number, start: number, end: number): GpuTensor {
    const at = dim < 0 ? dim + this.shape.length : dim;
    const size = this.shape[at] ?? -1;
    if (!Number.isInteger(start) || !Number.isInteger(end) || start < 0 || end < start || end > size) {
      throw new ArgumentError(
        "GpuTensor.slice",
        "dim, start, end",
        `a range within ${formatShape(this.shape)}`,
        `dimension ${dim}, [${start}, ${end})`,
      );
    }
    const shape = this.shape.map((old, index) => (index === at ? end - start : old));
    const offset = this.elementOffset + start * (this.strides[at] ?? 0);
    return new GpuTensor(this.buffer, this.dtype, shape, this.strides, offset, this.#destroy);
  }

  /** Destroys the buffer, with every view of it. */
  free(): void {
    this.#destroy();
  }
}
