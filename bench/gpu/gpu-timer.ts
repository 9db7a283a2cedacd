import { COPY_DST, COPY_SRC, MAP_MODE_READ, MAP_READ } from "../../libs/kernels/src/device/buffer-usage.ts";

const QUERY_RESOLVE = 0x0200;

/** Times one compute pass by timestamps that the GPU writes at its beginning and end. */
export class GpuTimer {
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #readback: GPUBuffer;
  #state: "idle" | "armed" | "timed" = "idle";

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#queries = device.createQuerySet({ type: "timestamp", count: 2 });
    this.#resolved = device.createBuffer({ size: 16, usage: QUERY_RESOLVE | COPY_SRC });
    this.#readback = device.createBuffer({ size: 16, usage: MAP_READ | COPY_DST });
  }

  /** The next pass is to be timed. */
  arm(): void {
    this.#state = "armed";
  }

  /** For GpuDevice.passTimestamps. */
  nextPass(): GPUComputePassTimestampWrites | undefined {
    if (this.#state === "timed") throw new Error("what is timed must fit one compute pass");
    if (this.#state === "idle") return undefined;
    this.#state = "timed";
    return { querySet: this.#queries, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 };
  }

  /** Seconds that the pass took, once it was submitted. */
  async seconds(): Promise<number> {
    if (this.#state !== "timed") throw new Error("no pass was timed");
    this.#state = "idle";
    const encoder = this.#device.createCommandEncoder();
    encoder.resolveQuerySet(this.#queries, 0, 2, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#readback, 0, 16);
    this.#device.queue.submit([encoder.finish()]);
    await this.#readback.mapAsync(MAP_MODE_READ);
    const [begin = 0n, end = 0n] = new BigUint64Array(this.#readback.getMappedRange());
    this.#readback.unmap();
    return Number(end - begin) / 1e9;
  }

  destroy(): void {
    this.#queries.destroy();
    this.#resolved.destroy();
    this.#readback.destroy();
  }
}
