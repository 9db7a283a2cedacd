import { DeviceError } from "../errors.ts";
import { COPY_DST, MAP_MODE_READ, MAP_READ } from "../device/buffer-usage.ts";
import { poolBufferBytes } from "./pool-buffer.ts";

const LABEL = "lockstep readback";
const DEADLINE_MS = 120_000;

/** Mappable buffers for results on their way down. One is busy from its submission until its bytes were read. */
export class ReadbackPool {
  readonly #device: GPUDevice;
  readonly #deviceName: string;
  readonly #free: GPUBuffer[] = [];
  readonly #busy = new Set<GPUBuffer>();

  constructor(device: GPUDevice, deviceName: string) {
    this.#device = device;
    this.#deviceName = deviceName;
  }

  /** True when {@link ReadbackPool.take} of so many bytes would make a new buffer. */
  mustGrow(bytes: number): boolean {
    return !this.#free.some((buffer) => buffer.size >= bytes);
  }

  /** A buffer to copy results into, at least `bytes` large. */
  take(bytes: number): GPUBuffer {
    const size = poolBufferBytes(this.#device, LABEL, bytes);
    const index = this.#free.findIndex((buffer) => buffer.size >= bytes);
    const [found] = index === -1 ? [] : this.#free.splice(index, 1);
    const buffer = found ?? this.#device.createBuffer({ label: LABEL, size, usage: MAP_READ | COPY_DST });
    this.#busy.add(buffer);
    return buffer;
  }

  /** Waits for the copy into `buffer`, hands its first `bytes` to `use`, and takes the buffer back. */
  async read(buffer: GPUBuffer, bytes: number, use: (mapped: ArrayBuffer) => Promise<void>): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new DeviceError(this.#deviceName, `did not finish within ${DEADLINE_MS / 1000} s.`));
      }, DEADLINE_MS);
    });
    try {
      await Promise.race([buffer.mapAsync(MAP_MODE_READ, 0, bytes), late]);
      await use(buffer.getMappedRange(0, bytes));
      buffer.unmap();
      this.#busy.delete(buffer);
      this.#free.push(buffer);
    } catch (error) {
      this.#busy.delete(buffer);
      buffer.destroy();
      if (error instanceof DeviceError) throw error;
      throw new DeviceError(this.#deviceName, `could not return a result: ${messageOf(error)}`);
    } finally {
      clearTimeout(timer);
    }
  }

  destroy(): void {
    for (const buffer of [...this.#free, ...this.#busy]) buffer.destroy();
    this.#free.length = 0;
    this.#busy.clear();
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
