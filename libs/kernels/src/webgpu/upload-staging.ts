import { COPY_SRC, MAP_MODE_WRITE, MAP_WRITE } from "../device/buffer-usage.ts";

const SMALLEST_BYTES = 1 << 20;

/**
 * Mapped buffers for large uploads. `writeBuffer` allocates staging memory of its own for each call that is larger than
 * some megabytes, which costs more than the transfer; these are allocated once, and mapped again while the GPU
 * computes.
 */
export class UploadStaging {
  readonly #device: GPUDevice;
  /** Mapped, to be written. */
  readonly #free: { readonly buffer: GPUBuffer; readonly bytes: ArrayBuffer }[] = [];
  readonly #busy = new Set<GPUBuffer>();
  #isDestroyed = false;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** True when {@link UploadStaging.stage} of so many bytes would make a new buffer. */
  mustGrow(bytes: number): boolean {
    return !this.#free.some(({ buffer }) => buffer.size >= bytes);
  }

  /** A buffer whose first `bytes` are what `write` writes, to be copied from by the next submission. */
  stage(bytes: number, write: (mapped: ArrayBuffer) => void): GPUBuffer {
    const index = this.#free.findIndex(({ buffer }) => buffer.size >= bytes);
    const { buffer, bytes: mapped } = (index === -1 ? undefined : this.#free.splice(index, 1)[0]) ?? this.#make(bytes);
    write(mapped);
    buffer.unmap();
    this.#busy.add(buffer);
    return buffer;
  }

  /** To be called once the copy from `buffer` was submitted. */
  release(buffer: GPUBuffer): void {
    buffer.mapAsync(MAP_MODE_WRITE).then(
      () => {
        this.#busy.delete(buffer);
        if (!this.#isDestroyed) this.#free.push({ buffer, bytes: buffer.getMappedRange() });
      },
      () => {
        // The device is gone, or the pool: what is the matter, the submission says.
        this.#busy.delete(buffer);
        buffer.destroy();
      },
    );
  }

  destroy(): void {
    this.#isDestroyed = true;
    for (const buffer of [...this.#free.map((free) => free.buffer), ...this.#busy]) buffer.destroy();
    this.#free.length = 0;
    this.#busy.clear();
  }

  #make(bytes: number): { buffer: GPUBuffer; bytes: ArrayBuffer } {
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, SMALLEST_BYTES)));
    const usage = MAP_WRITE | COPY_SRC;
    const buffer = this.#device.createBuffer({ label: "lockstep staging", size, usage, mappedAtCreation: true });
    return { buffer, bytes: buffer.getMappedRange() };
  }
}
