import { ArgumentError } from "@lockstep/tensor";

const SMALLEST_BYTES = 65536;

/**
 * Bytes to make a buffer of that must hold `bytes`: a power of two, or the largest that the device has.
 * @throws ArgumentError when the device has no buffer that large; `label` names it
 */
export function poolBufferBytes(device: GPUDevice, label: string, bytes: number): number {
  const largest = device.limits.maxBufferSize;
  if (bytes > largest) {
    throw new ArgumentError(
      "webgpu",
      `operands (${label})`,
      `at most ${largest} bytes per call on this device`,
      `${bytes} bytes`,
      "Keep large operands on the GPU (backend.empty), or split the call.",
    );
  }
  return Math.min(largest, 2 ** Math.ceil(Math.log2(Math.max(bytes, SMALLEST_BYTES))));
}

/** A GPU buffer that is replaced by a larger one when it gets too small. Its contents do not survive that. */
export class PoolBuffer {
  readonly #device: GPUDevice;
  readonly #label: string;
  readonly #usage: GPUBufferUsageFlags;
  #buffer: GPUBuffer | undefined;

  constructor(device: GPUDevice, label: string, usage: GPUBufferUsageFlags) {
    this.#device = device;
    this.#label = label;
    this.#usage = usage;
  }

  /** True when {@link PoolBuffer.take} of so many bytes would make a new buffer. */
  mustGrow(bytes: number): boolean {
    return bytes > (this.#buffer?.size ?? 0);
  }

  /** The buffer, at least `bytes` large. */
  take(bytes: number): GPUBuffer {
    if (this.#buffer !== undefined && bytes <= this.#buffer.size) return this.#buffer;
    const size = poolBufferBytes(this.#device, this.#label, bytes);
    this.#buffer?.destroy();
    this.#buffer = this.#device.createBuffer({ label: this.#label, size, usage: this.#usage });
    return this.#buffer;
  }

  destroy(): void {
    this.#buffer?.destroy();
    this.#buffer = undefined;
  }
}
