import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";
import type { GpuDevice } from "../device/gpu-device.ts";
import { BindGroupCache, type BoundRange } from "./bind-group-cache.ts";
import { COPY_DST, COPY_SRC, STORAGE, UNIFORM } from "../device/buffer-usage.ts";
import type { Command, Copy, Download, PoolUse } from "./commands.ts";
import type { CompiledKernel } from "./compiled-kernel.ts";
import { betweenHoles, copyAround, gatherLate, type LateUpload } from "./late-uploads.ts";
import { PoolBuffer } from "./pool-buffer.ts";
import { ReadbackPool } from "./readback.ts";
import type { Pool, Region } from "./region.ts";
import { scatterTensor } from "./strided-copy.ts";
import { UploadStaging } from "./upload-staging.ts";
import type { Verdicts } from "./verdicts.ts";

/** A dispatch whose regions have found their buffers. */
interface ReadyDispatch {
  readonly kind: "dispatch";
  readonly kernel: CompiledKernel;
  readonly ranges: readonly BoundRange[];
  readonly grid: readonly [x: number, y: number];
  readonly group: GPUBindGroup | undefined;
}

/** Where what comes down lies: `readback` behind a copy of what is used of `result`. */
interface Readback {
  readonly buffer: GPUBuffer;
  readonly resultBytes: number;
  readonly bytes: number;
}

/** Pools of one buffer each. */
const POOLS = ["upload", "result", "scratch", "together"] as const;

/** From so many bytes on, uploads go by mapped buffers. */
export const STAGED_BYTES = 1 << 18;

/**
 * Turns recorded commands into one upload, one command buffer and one mapped download. Owns the buffers of the pools,
 * and keeps them and the bind groups from one submission to the next.
 */
export class Submitter {
  readonly #gpu: GpuDevice;
  readonly #verdicts: Verdicts;
  readonly #pools: Readonly<Record<Exclude<Pool, "readback">, PoolBuffer>>;
  readonly #readbacks: ReadbackPool;
  readonly #bindGroups: BindGroupCache;
  readonly #staging: UploadStaging;
  #failures = 0;

  constructor(gpu: GpuDevice, verdicts: Verdicts) {
    this.#gpu = gpu;
    this.#verdicts = verdicts;
    const { device } = gpu;
    this.#pools = {
      upload: new PoolBuffer(device, "lockstep upload", STORAGE | UNIFORM | COPY_DST | COPY_SRC),
      result: new PoolBuffer(device, "lockstep result", STORAGE | COPY_SRC | COPY_DST),
      scratch: new PoolBuffer(device, "lockstep scratch", STORAGE),
      together: new PoolBuffer(device, "lockstep together", STORAGE),
    };
    this.#readbacks = new ReadbackPool(device, gpu.name);
    this.#bindGroups = new BindGroupCache(device);
    this.#staging = new UploadStaging(device);
  }

  /**
   * Submits. Returns a promise when there are downloads: it resolves once they lie in their heap tensors. `isDoubtful`:
   * the device may reject it though it was accepted before.
   */
  submit(
    commands: readonly Command[],
    staging: ArrayBuffer,
    used: Readonly<PoolUse>,
    downloads: readonly Download[],
    late: readonly LateUpload[],
    isDoubtful: boolean,
  ): Promise<void> | undefined {
    if (this.#failures !== this.#verdicts.failures) {
      // What was made for what failed may be invalid.
      this.#failures = this.#verdicts.failures;
      this.#bindGroups.clear();
    }
    const downBytes = used.result + used.readback;
    const grows =
      this.#pools.upload.mustGrow(used.upload) ||
      (this.#isStaged(used.upload) && this.#staging.mustGrow(used.upload)) ||
      this.#pools.result.mustGrow(used.result) ||
      this.#pools.scratch.mustGrow(used.scratch) ||
      this.#pools.together.mustGrow(used.together) ||
      (downBytes > 0 && this.#readbacks.mustGrow(downBytes));
    const run = (): Readback | undefined => {
      for (const pool of POOLS) if (used[pool] > 0) this.#pools[pool].take(used[pool]);
      const ready = commands.map((command) => this.#ready(command));
      const isNew = ready.some((command) => command.kind === "dispatch" && command.group === undefined);
      const encode = (): Readback | undefined => this.#encode(ready, staging, late, used);
      return (isNew || isDoubtful) && !grows ? this.#guard(encode) : encode();
    };
    const readback = grows ? this.#guard(run) : run();
    return readback === undefined ? undefined : this.#finish(readback, downloads);
  }

  /** Drops the bind groups, which may hold a buffer that is about to be destroyed. */
  forgetBuffers(): void {
    this.#bindGroups.clear();
  }

  destroy(): void {
    for (const pool of Object.values(this.#pools)) pool.destroy();
    this.#readbacks.destroy();
    this.#staging.destroy();
    this.#bindGroups.clear();
  }

  /** Only what makes something new can be rejected: a step that repeats goes without error scopes. */
  #guard<T>(run: () => T): T {
    return this.#verdicts.guard("rejected a submission", run);
  }

  #ready(command: Command): ReadyDispatch | Copy {
    if (command.kind === "copy") return command;
    const { kind, kernel, grid } = command;
    const ranges = command.regions.map((region) => this.#rangeOf(region));
    return { kind, kernel, grid, ranges, group: this.#bindGroups.find(kernel, ranges) };
  }

  #rangeOf(region: Region, readback?: Readback): BoundRange {
    const { home, offset, size } = region;
    if (typeof home !== "string") return { buffer: home, offset, size };
    if (home !== "readback") return { buffer: this.#pools[home].take(0), offset, size };
    if (readback === undefined) throw new RangeError("a kernel that binds memory which the host maps");
    return { buffer: readback.buffer, offset: readback.resultBytes + offset, size };
  }

  /** Uploads, encodes and submits; returns where what comes down is copied to, if there is any. */
  #encode(
    commands: readonly (ReadyDispatch | Copy)[],
    staging: ArrayBuffer,
    late: readonly LateUpload[],
    used: Readonly<PoolUse>,
  ): Readback | undefined {
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder();
    const upload = this.#upload(encoder, staging, late, used.upload);
    const readback = this.#takeReadback(used);
    let pass: GPUComputePassEncoder | undefined;
    for (const command of commands) {
      if (command.kind === "dispatch") {
        pass ??= this.#beginPass(encoder);
        pass.setPipeline(command.kernel.pipeline);
        pass.setBindGroup(0, command.group ?? this.#bindGroups.make(command.kernel, command.ranges));
        pass.dispatchWorkgroups(command.grid[0], command.grid[1]);
      } else {
        pass?.end();
        pass = undefined;
        const [from, to] = [this.#rangeOf(command.from), this.#rangeOf(command.to, readback)];
        encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, command.bytes);
      }
    }
    pass?.end();
    if (readback !== undefined && readback.resultBytes > 0) {
      encoder.copyBufferToBuffer(this.#pools.result.take(0), 0, readback.buffer, 0, readback.resultBytes);
    }
    device.queue.submit([encoder.finish()]);
    if (upload !== undefined) this.#staging.release(upload);
    return readback;
  }

  #isStaged(bytes: number): boolean {
    return bytes >= STAGED_BYTES && this.#staging.hasRoom(bytes);
  }

  /** Returns the mapped buffer that the bytes go by, if they are many. */
  #upload(
    encoder: GPUCommandEncoder,
    staging: ArrayBuffer,
    late: readonly LateUpload[],
    bytes: number,
  ): GPUBuffer | undefined {
    if (bytes === 0) return undefined;
    const target = this.#pools.upload.take(0);
    if (!this.#isStaged(bytes)) {
      gatherLate(late, staging);
      this.#gpu.device.queue.writeBuffer(target, 0, staging, 0, bytes);
      return undefined;
    }
    const source = this.#staging.stage(bytes, (mapped) => {
      copyAround(late, staging, mapped, bytes);
      gatherLate(late, mapped);
    });
    for (const { start, end } of betweenHoles(late, bytes)) {
      encoder.copyBufferToBuffer(source, start, target, start, end - start);
    }
    return source;
  }

  #takeReadback({ result: resultBytes, readback }: Readonly<PoolUse>): Readback | undefined {
    const bytes = resultBytes + readback;
    return bytes === 0 ? undefined : { buffer: this.#readbacks.take(bytes), resultBytes, bytes };
  }

  #beginPass(encoder: GPUCommandEncoder): GPUComputePassEncoder {
    const timestampWrites = this.#gpu.passTimestamps?.();
    return encoder.beginComputePass(timestampWrites === undefined ? {} : { timestampWrites });
  }

  async #finish({ buffer, resultBytes, bytes }: Readback, downloads: readonly Download[]): Promise<void> {
    let broken: unknown;
    let freed: Tensor | undefined;
    try {
      await this.#readbacks.read(buffer, bytes, async (mapped) => {
        await this.#verdicts.settle();
        if (this.#verdicts.hasFailure) return;
        for (const { region, tensor } of downloads) {
          // Its bytes may belong to another tensor by now.
          if (tensor.isFreed) {
            freed ??= tensor;
            continue;
          }
          const base = region.home === "readback" ? resultBytes : 0;
          const start = base + region.offset + region.first * DTYPE_BYTES[tensor.dtype];
          scatterTensor(mapped, start, region.strides, tensor);
        }
      });
    } catch (error) {
      broken = error;
    }
    // What the device says is the cause; that nothing could be mapped is its effect.
    await this.#verdicts.settle();
    this.#verdicts.throwFailure();
    if (broken !== undefined) throw broken;
    freed?.assertUsable("webgpu", "a result that was still to come");
  }
}
