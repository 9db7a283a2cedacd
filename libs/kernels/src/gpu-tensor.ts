import {
  ArgumentError,
  checkDType,
  checkShape,
  checkSizes,
  contiguousStrides,
  DTYPE_BYTES,
  type DType,
  describe,
  elementCount,
  formatShape,
  spannedElements,
  UseAfterFree,
} from "@lockstep/tensor";

/** Memory on a GPU whose device another thread holds. Where it lies only the backend knows that made it. */
export interface RemoteGpuMemory {
  /** Tells it from a GPUBuffer. */
  readonly isRemote: true;
  /** In bytes. */
  readonly size: number;
}

/** Memory that was given back: by one of its tensors, or by the backend that it belonged to. */
const freed = new WeakSet<GPUBuffer | RemoteGpuMemory>();

/** Devices of the buffers that backends made. */
const devices = new WeakMap<GPUBuffer, GPUDevice>();

/** Notes which device a buffer belongs to. */
export function noteDevice(buffer: GPUBuffer, device: GPUDevice): void {
  devices.set(buffer, device);
}

/** The device of a buffer that a backend made; undefined for others. */
export function deviceOf(buffer: GPUBuffer): GPUDevice | undefined {
  return devices.get(buffer);
}

/** Notes that memory was given back, so that tensors that lie in it say so when they are used. */
export function noteFreed(memory: GPUBuffer | RemoteGpuMemory): void {
  freed.add(memory);
}

/**
 * A tensor whose bytes stay on a GPU, as a strided view of a GPUBuffer. Made by the `webgpu` backend's `empty`; or by
 * that of a backend that computes on another thread's GPU, and then usable with that backend alone.
 */
export class GpuTensor {
  /** Of its elements. */
  readonly dtype: DType;
  /** Sizes of its dimensions, the outermost first. */
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** The buffer that it is a view of, or what stands for one of another thread's device. */
  readonly memory: GPUBuffer | RemoteGpuMemory;
  /** Element offset of the first element within the buffer. */
  readonly elementOffset: number;
  /** Number of elements. */
  readonly size: number;
  /** True when the elements lie in row-major order without gaps. */
  readonly isContiguous: boolean;
  readonly #destroy: () => void;

  /** One past the last byte of its elements within the buffer. */
  readonly byteEnd: number;

  /**
   * A view of `memory` that begins at element `elementOffset`. @throws ArgumentError for a view beyond it. `destroy` is what {@link GpuTensor.free} does;
   * default: it destroys a buffer.
   */
  constructor(
    memory: GPUBuffer | RemoteGpuMemory,
    dtype: DType,
    shape: readonly number[],
    strides: readonly number[] = contiguousStrides(shape),
    elementOffset = 0,
    destroy: () => void = () => destroyBuffer(memory),
  ) {
    checkView(memory, dtype, shape, strides, elementOffset);
    this.memory = memory;
    this.dtype = dtype;
    this.shape = shape;
    this.strides = strides;
    this.elementOffset = elementOffset;
    this.size = elementCount(shape);
    const rowMajor = contiguousStrides(shape);
    this.isContiguous =
      this.size === 0 || shape.every((size, dim) => size === 1 || strides[dim] === (rowMajor[dim] ?? 0));
    this.byteEnd = this.byteOffset + spannedElements(shape, strides) * DTYPE_BYTES[dtype];
    this.#destroy = destroy;
  }

  /** Where its bytes lie; a heap tensor says "heap". */
  get place(): "device" {
    return "device";
  }

  /** Byte offset of the first element within the buffer. */
  get byteOffset(): number {
    return this.elementOffset * DTYPE_BYTES[this.dtype];
  }

  /**
   * True once the buffer was given back: by {@link GpuTensor.free} of any view, or by closing the backend that made it.
   */
  get isFreed(): boolean {
    return freed.has(this.memory);
  }

  /** Throws UseAfterFree, naming the function that was called and its argument, when {@link GpuTensor.isFreed}. */
  assertUsable(operation: string, argument = "this"): void {
    if (freed.has(this.memory)) throw new UseAfterFree(operation, argument, this.toString());
  }

  /** @throws ArgumentError when the bytes lie on another thread's GPU */
  get buffer(): GPUBuffer {
    const { memory } = this;
    if (!("isRemote" in memory)) return memory;
    const expected = "a GPU tensor of this backend's own device";
    throw new ArgumentError("GpuTensor.buffer", "tensor", expected, "one of a GPU that another thread holds");
  }

  /** Bytes of its elements, without gaps. */
  get byteLength(): number {
    return this.size * DTYPE_BYTES[this.dtype];
  }

  /** Indexes [start, end) of dimension `dim`. */
  slice(dim: number, start: number, end: number): GpuTensor {
    this.assertUsable("GpuTensor.slice");
    const at = dim < 0 ? dim + this.shape.length : dim;
    const size = this.shape[at] ?? -1;
    if (!Number.isInteger(start) || !Number.isInteger(end) || start < 0 || end < start || end > size) {
      throw new ArgumentError(
        "GpuTensor.slice",
        "dim, start, end",
        `a range within ${formatShape(this.shape)}`,
        `dimension ${describe(dim)}, [${describe(start)}, ${describe(end)})`,
      );
    }
    const shape = this.shape.map((old, index) => (index === at ? end - start : old));
    // Views without elements stay where they are: an offset may lead out of the buffer.
    const offset = this.elementOffset + (shape.includes(0) ? 0 : start * (this.strides[at] ?? 0));
    return new GpuTensor(this.memory, this.dtype, shape, this.strides, offset, this.#destroy);
  }

  /** Destroys the buffer, with every view of it. */
  free(): void {
    freed.add(this.memory);
    this.#destroy();
  }

  /** `GPU f32 [2, 3]` */
  toString(): string {
    return `GPU ${this.dtype} ${formatShape(this.shape)}`;
  }
}

function checkView(
  memory: GPUBuffer | RemoteGpuMemory,
  dtype: DType,
  shape: readonly number[],
  strides: readonly number[],
  elementOffset: number,
): void {
  const operation = "GpuTensor";
  checkDType(operation, "dtype", dtype);
  checkShape(operation, "shape", shape);
  checkSizes(operation, "strides", strides);
  const width = DTYPE_BYTES[dtype];
  const bytes = (elementOffset + spannedElements(shape, strides)) * width;
  const isWithin = Number.isSafeInteger(elementOffset) && elementOffset >= 0 && bytes <= memory.size;
  if (strides.length === shape.length && isWithin) return;
  const received =
    `${dtype} ${formatShape(shape)} with strides ${formatShape(strides)} ` + `from ${describe(elementOffset)} on`;
  throw new ArgumentError(operation, "shape, strides, elementOffset", `within its ${memory.size} bytes`, received);
}

function destroyBuffer(memory: GPUBuffer | RemoteGpuMemory): void {
  if (!("isRemote" in memory)) memory.destroy();
}
