import { COPY_SRC, MAP_MODE_WRITE, MAP_WRITE } from "../device/buffer-usage.ts";

const SMALLEST_BYTES = 1 << 20;
/** What uploads take that follow each other before any of their buffers is mapped again, as those of many sequences. */
const MOST_BYTES = 1 << 28;

/** A buffer, mapped or on its way. */
interface Staged {
  readonly buffer: GPUBuffer;
  readonly size: number;
}

/**
 * Mapped buffers for large uploads. `writeBuffer` allocates staging memory of its own for each call that is larger than
 * some megabytes, which costs more than the transfer; these are allocated once, and mapped again while the GPU
 * computes.
 */
export class UploadStaging {
  readonly #device: GPUDevice;
  /** Mapped, to be written. */
  readonly #free: (Staged & { readonly bytes: ArrayBuffer })[] = [];
  /** By the buffer that {@link UploadStaging.stage} gave. */
  readonly #busy = new Map<GPUBuffer, Staged>();
  #isDestroyed = false;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** True when {@link UploadStaging.stage} of so many bytes would make a new buffer. */
  mustGrow(bytes: number): boolean {
    return !this.#free.some(({ size }) => size >= bytes);
  }

  /** True when {@link UploadStaging.stage} can take so many bytes beside what is on its way. */
  hasRoom(bytes: number): boolean {
    return (
      this.#busy.size === 0 || !this.mustGrow(bytes) || bytesOf(this.#busy.values()) + sizeFor(bytes) <= MOST_BYTES
    );
  }

  /** A buffer whose first `bytes` are what `write` writes, to be copied from by the next submission. */
  stage(bytes: number, write: (mapped: ArrayBuffer) => void): GPUBuffer {
    const index = this.#free.findIndex(({ size }) => size >= bytes);
    const { buffer, size, bytes: mapped } = this.#free.splice(index, index === -1 ? 0 : 1)[0] ?? this.#make(bytes);
    write(mapped);
    buffer.unmap();
    this.#busy.set(buffer, { buffer, size });
    return buffer;
  }

  /** To be called once the copy from `buffer` was submitted. */
  release(buffer: GPUBuffer): void {
    const staged = this.#busy.get(buffer);
    buffer.mapAsync(MAP_MODE_WRITE).then(
      () => {
        this.#busy.delete(buffer);
        if (!this.#isDestroyed && staged !== undefined) this.#free.push({ ...staged, bytes: buffer.getMappedRange() });
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
    for (const { buffer } of [...this.#free, ...this.#busy.values()]) buffer.destroy();
    this.#free.length = 0;
    this.#busy.clear();
  }

  #make(bytes: number): Staged & { readonly bytes: ArrayBuffer } {
    const size = sizeFor(bytes);
    // None of those that wait is large enough.
    while (this.#free.length > 0 && bytesOf([...this.#free, ...this.#busy.values()]) + size > MOST_BYTES) {
      this.#free.shift()?.buffer.destroy();
    }
    const usage = MAP_WRITE | COPY_SRC;
    const buffer = this.#device.createBuffer({ label: "lockstep staging", size, usage, mappedAtCreation: true });
    return { buffer, size, bytes: buffer.getMappedRange() };
  }
}

function sizeFor(bytes: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(bytes, SMALLEST_BYTES)));
}

function bytesOf(staged: Iterable<Staged>): number {
  let bytes = 0;
  for (const { size } of staged) bytes += size;
  return bytes;
}
