import { ArgumentError, contiguousStrides, DTYPE_BYTES, type DType, elementCount, formatShape } from "@lockstep/tensor";

/** Memory on a GPU that another thread's backend holds, where it is known by this number. */
export interface RemoteGpuMemory {
  readonly remoteId: number;
  /** In bytes. */
  readonly size: number;
}

/**
 * A tensor whose bytes stay on a GPU, as a strided view of a GPUBuffer. Made by the `webgpu` backend's `empty`; or by that of
 * a backend that computes on another thread's GPU, and then usable with that backend alone.
 */
export class GpuTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  readonly memory: GPUBuffer | RemoteGpuMemory;
  /** Element offset of the first element within the buffer. */
  readonly elementOffset: number;
  readonly size: number;
  /** True when the elements lie in row-major order without gaps. */
  readonly isContiguous: boolean;
  readonly #destroy: () => void;

  /** A view of `memory`. `destroy` is what {@link GpuTensor.free} does; default: it destroys a buffer. */
  constructor(
    memory: GPUBuffer | RemoteGpuMemory,
    dtype: DType,
    shape: readonly number[],
    strides: readonly number[] = contiguousStrides(shape),
    elementOffset = 0,
    destroy: () => void = () => destroyBuffer(memory),
  ) {
    this.memory = memory;
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

  /** @throws ArgumentError when the bytes lie on another thread's GPU */
  get buffer(): GPUBuffer {
    const { memory } = this;
    if (!("remoteId" in memory)) return memory;
    const expected = "a GPU tensor of this backend's own device";
    throw new ArgumentError("GpuTensor.buffer", "tensor", expected, "one of a GPU that another thread holds");
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
    return new GpuTensor(this.memory, this.dtype, shape, this.strides, offset, this.#destroy);
  }

  /** Destroys the buffer, with every view of it. */
  free(): void {
    this.#destroy();
  }
}

function destroyBuffer(memory: GPUBuffer | RemoteGpuMemory): void {
  if (!("remoteId" in memory)) memory.destroy();
}
