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
import { STORAGE } from "./device/buffer-usage.ts";
import type { CallerGpuBuffer, CallerGpuDevice } from "./device/caller-gpu.ts";

/** Memory on a GPU whose device another thread holds. Where it lies only the backend knows that made it. */
export interface RemoteGpuMemory {
  /** Tells it from a GPUBuffer. */
  readonly isRemote: true;
  /** In bytes. */
  readonly size: number;
}

/** What was given back: memory, by one of its tensors or the backend that it belonged to; or a view of a caller's. */
const freed = new WeakSet<object>();

/** What is known of a buffer. */
interface BufferNote {
  /** The device that it is of. */
  readonly device: CallerGpuDevice | undefined;
  /** Its usage, for a buffer of the caller's: what is not in it, ops must do without. */
  readonly callersUsage: number | undefined;
}

const notes = new WeakMap<CallerGpuBuffer, BufferNote>();

/** Notes which device a buffer of a backend's belongs to. */
export function noteDevice(buffer: CallerGpuBuffer, device: CallerGpuDevice): void {
  notes.set(buffer, { device, callersUsage: undefined });
}

/** What is known of a buffer that a backend made or that was wrapped; undefined for others. */
export function noteOf(buffer: CallerGpuBuffer): BufferNote | undefined {
  return notes.get(buffer);
}

/** Notes that memory was given back, so that tensors that lie in it say so when they are used. */
export function noteFreed(memory: CallerGpuBuffer | RemoteGpuMemory): void {
  freed.add(memory);
}

/** How a caller's buffer is seen; see {@link GpuTensor.wrap}. */
export interface WrapOptions {
  /** In elements. Default: row-major without gaps. */
  readonly strides?: readonly number[];
  /** Element of the buffer that the first one is. Default 0. */
  readonly elementOffset?: number;
  /** The device that the buffer was made by. Given, backends of other devices refuse it before anything happens. */
  readonly device?: CallerGpuDevice;
}

/**
 * A tensor whose bytes stay on a GPU, as a strided view of a GPUBuffer. Made by the `webgpu` backend's `empty`; by
 * {@link GpuTensor.wrap} over a buffer of the caller's; or by a backend that computes on another thread's GPU, and then
 * usable with that backend alone.
 */
export class GpuTensor {
  /** Of its elements. */
  readonly dtype: DType;
  /** Sizes of its dimensions, the outermost first. */
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** The buffer that it is a view of, or what stands for one of another thread's device. */
  readonly memory: CallerGpuBuffer | RemoteGpuMemory;
  /** Element offset of the first element within the buffer. */
  readonly elementOffset: number;
  /** Number of elements. */
  readonly size: number;
  /** True when the elements lie in row-major order without gaps. */
  readonly isContiguous: boolean;
  readonly #destroy: () => void;
  /** What is freed with it: the memory, or what stands for the views of one {@link GpuTensor.wrap}. */
  #life: object;

  /** One past the last byte of its elements within the buffer. */
  readonly byteEnd: number;

  /**
   * A view of `memory` that begins at element `elementOffset`. @throws ArgumentError for a view beyond it. `destroy` is
   * what {@link GpuTensor.free} does; default: it destroys a buffer.
   */
  constructor(
    memory: CallerGpuBuffer | RemoteGpuMemory,
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
    this.#life = memory;
  }

  /**
   * A view of a `GPUBuffer` of the caller's, to be used in place by ops of a backend on its device:
   * `openBackend("webgpu", { heap, device })`. It stays the caller's: neither {@link GpuTensor.free}, which ends the
   * view and its slices, nor closing the backend destroys it. Ops and the caller's own commands run in the order in
   * which they are given to the queue. The buffer must be unmapped, and not be destroyed, when an op uses it.
   *
   * Its usage must have STORAGE; for `download` COPY_SRC as well, for `upload` COPY_DST, and COPY_SRC where an op reads
   * one part of a buffer and writes another, or reads states that lie apart (`mergeAttnStates`). Ops say what is
   * missing.
   *
   * @throws ArgumentError for a buffer without STORAGE, and for a view beyond it
   */
  static wrap(
    buffer: CallerGpuBuffer,
    dtype: DType,
    shape: readonly number[],
    { strides = contiguousStrides(shape), elementOffset = 0, device }: WrapOptions = {},
  ): GpuTensor {
    checkCallersBuffer(buffer, device);
    const tensor = new GpuTensor(buffer, dtype, [...shape], [...strides], elementOffset, () => undefined);
    // A binding is of whole words, and not of none.
    const least = tensor.size === 0 ? 16 : tensor.byteEnd;
    if (Math.floor(buffer.size / 4) * 4 < least) {
      const needed = `of at least ${Math.ceil(least / 4) * 4} bytes`;
      throw new ArgumentError("GpuTensor.wrap", "buffer", needed, `${buffer.size} bytes`);
    }
    tensor.#life = {};
    const known = notes.get(buffer);
    // A buffer of a backend's stays known as one.
    if (known === undefined || known.callersUsage !== undefined) {
      notes.set(buffer, { device: device ?? known?.device, callersUsage: buffer.usage });
    }
    return tensor;
  }

  /**
   * A view of a tensor whose memory outlives it: freeing it ends it and its slices, and calls `onFree`, once. Whoever
   * lends decides when the tensor is freed.
   */
  static lend(tensor: GpuTensor, onFree: () => void): GpuTensor {
    const { memory, dtype, shape, strides, elementOffset } = tensor;
    let isEnded = false;
    const lent = new GpuTensor(memory, dtype, shape, strides, elementOffset, () => {
      if (!isEnded) onFree();
      isEnded = true;
    });
    lent.#life = {};
    return lent;
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
    return freed.has(this.memory) || (this.#life !== this.memory && freed.has(this.#life));
  }

  /** Throws UseAfterFree, naming the function that was called and its argument, when {@link GpuTensor.isFreed}. */
  assertUsable(operation: string, argument = "this"): void {
    if (this.isFreed) throw new UseAfterFree(operation, argument, this.toString());
  }

  /** @throws ArgumentError when the bytes lie on another thread's GPU */
  get buffer(): CallerGpuBuffer {
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
    const view = new GpuTensor(this.memory, this.dtype, shape, this.strides, offset, this.#destroy);
    view.#life = this.#life;
    return view;
  }

  /** Destroys the buffer, with every view of it. Of a caller's buffer it ends the views that were sliced of one. */
  free(): void {
    freed.add(this.#life);
    this.#destroy();
  }

  /** `GPU f32 [2, 3]` */
  toString(): string {
    return `GPU ${this.dtype} ${formatShape(this.shape)}`;
  }
}

function checkCallersBuffer(buffer: CallerGpuBuffer, device: CallerGpuDevice | undefined): void {
  const name = "GpuTensor.wrap";
  const isBuffer = typeof buffer === "object" && buffer !== null && typeof buffer.usage === "number";
  if (!isBuffer) throw new ArgumentError(name, "buffer", "a GPUBuffer", describe(buffer));
  if (device !== undefined && (typeof device !== "object" || device === null)) {
    throw new ArgumentError(name, "device", "a GPUDevice", describe(device));
  }
  if ((buffer.usage & STORAGE) === 0) {
    throw new ArgumentError(name, "buffer", "of usage GPUBufferUsage.STORAGE", `of usage ${buffer.usage}`);
  }
}

function checkView(
  memory: CallerGpuBuffer | RemoteGpuMemory,
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

function destroyBuffer(memory: CallerGpuBuffer | RemoteGpuMemory): void {
  if (!("isRemote" in memory)) memory.destroy();
}
