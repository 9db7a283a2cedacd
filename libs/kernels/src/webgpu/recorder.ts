import { ArgumentError, contiguousStrides, DTYPE_BYTES, spannedElements, type Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../context.ts";
import type { GpuDevice } from "../device/gpu-device.ts";
import { DeviceError } from "../errors.ts";
import { GpuTensor } from "../gpu-tensor.ts";
import type { Operand } from "../operand.ts";
import { COPY_DST, COPY_SRC, STORAGE, UNIFORM } from "./buffer-usage.ts";
import { type CompiledKernel, compileKernel, type KernelSource } from "./compiled-kernel.ts";
import { PoolBuffer } from "./pool-buffer.ts";
import { ReadbackPool } from "./readback.ts";
import { type Pool, REGION_ALIGNMENT, type Region, reservedBytes } from "./region.ts";
import { gatherTensor, scatterTensor } from "./strided-copy.ts";
import { workgroupGrid } from "./workgroup-grid.ts";

interface Dispatch {
  readonly kind: "dispatch";
  readonly kernel: CompiledKernel;
  readonly regions: readonly Region[];
  readonly grid: readonly [number, number];
  /** Found or made when the submission is encoded. */
  group: GPUBindGroup | undefined;
}

interface Copy {
  readonly kind: "copy";
  readonly from: Region;
  readonly to: Region;
  readonly bytes: number;
}

interface Download {
  readonly region: Region;
  readonly tensor: Tensor;
}

const MOST_BIND_GROUPS = 1024;
const MOST_PENDING_COMMANDS = 256;

/**
 * Records what ops do and submits it: one upload, one command buffer and, when heap tensors receive results, one
 * mapped download for everything recorded since the last submission.
 *
 * Heap operands are gathered into one staging buffer at the offsets that the recording gives them; the same sequence
 * of ops on the same shapes gets the same offsets, so its bind groups are found again and nothing is allocated. An op
 * without heap results on a device of our own is not submitted before the next op that needs it: a cache write and the
 * attention that follows it cost one submission.
 */
export class Recorder {
  readonly gpu: GpuDevice;
  readonly #context: KernelContext;
  readonly #pools: Readonly<Record<Pool, PoolBuffer>>;
  readonly #readbacks: ReadbackPool;
  readonly #bindGroups = new Map<string, GPUBindGroup>();
  readonly #bufferIds = new WeakMap<GPUBuffer, number>();
  #nextBufferId = 1;
  #staging = new ArrayBuffer(65536);
  readonly #used: Record<Pool, number> = { upload: 0, result: 0, scratch: 0 };
  #commands: (Dispatch | Copy)[] = [];
  #downloads: Download[] = [];
  /** Verdicts of the device that are still to come. */
  readonly #verdicts = new Set<Promise<void>>();
  /** What went wrong, thrown by the op that is running or by the next one. */
  #failure: DeviceError | undefined;
  #isLost = false;

  constructor(gpu: GpuDevice, context: KernelContext) {
    this.gpu = gpu;
    this.#context = context;
    const { device } = gpu;
    this.#pools = {
      upload: new PoolBuffer(device, "lockstep upload", STORAGE | UNIFORM | COPY_DST | COPY_SRC),
      result: new PoolBuffer(device, "lockstep result", STORAGE | COPY_SRC | COPY_DST),
      scratch: new PoolBuffer(device, "lockstep scratch", STORAGE),
    };
    this.#readbacks = new ReadbackPool(device, gpu.name);
  }

  /**
   * Runs `record`, which records one op. What it recorded is dropped when it throws. Returns a promise when heap
   * tensors receive results.
   */
  run(record: () => void): Promise<void> | undefined {
    this.throwFailure();
    const commands = this.#commands.length;
    const used = { ...this.#used };
    try {
      record();
    } catch (error) {
      this.#commands.length = commands;
      this.#downloads = [];
      Object.assign(this.#used, used);
      throw error;
    }
    const mayWait = this.gpu.owned && this.#commands.length < MOST_PENDING_COMMANDS;
    if (this.#downloads.length === 0 && mayWait) return undefined;
    return this.submit();
  }

  /** A kernel of the context, compiled when it is asked for the first time. */
  kernel(source: KernelSource): CompiledKernel {
    return this.#context.get(source.key, () =>
      compileKernel(this.gpu, source, (verdict) => {
        this.#expect(verdict);
      }),
    );
  }

  /** 32-bit parameters of a kernel, to be bound as a uniform. */
  uniform(values: readonly number[]): Region {
    return this.words(values, Math.ceil(values.length / 4) * 16);
  }

  /** 32-bit unsigned integers for a kernel to read; negative ones as their two's complement. */
  words(values: ArrayLike<number>, bytes = values.length * 4): Region {
    const region = this.#reserve("upload", bytes, []);
    const words = new Uint32Array(this.#staging, region.offset, values.length);
    words.set(values);
    return region;
  }

  /** Memory that lives for this submission. */
  scratch(bytes: number): Region {
    return this.#reserve("scratch", bytes, []);
  }

  /** An operand to read. */
  read(operand: Operand): Region {
    if (operand instanceof GpuTensor) return this.#regionOf(operand);
    const region = this.#reserve("upload", operand.byteLength, contiguousStrides(operand.shape));
    gatherTensor(operand, this.#staging, region.offset);
    return region;
  }

  /**
   * Operands of one dtype and shape, one after another; operand i starts `stride` elements behind operand i - 1.
   */
  readStack(operands: readonly Operand[]): { region: Region; stride: number } {
    const inPlace = stackOf(operands);
    if (inPlace !== undefined) {
      const [head] = inPlace.tensors;
      const all = new GpuTensor(
        head.buffer,
        head.dtype,
        [operands.length, head.size],
        [inPlace.stride, 1],
        head.elementOffset,
      );
      return { region: this.#regionOf(all), stride: inPlace.stride };
    }
    const [first] = operands;
    if (first === undefined) throw new RangeError("readStack needs an operand");
    const width = DTYPE_BYTES[first.dtype];
    const stride = Math.ceil((first.size * width) / 16) * (16 / width);
    const region = this.#reserve("upload", operands.length * stride * width, []);
    for (const [index, operand] of operands.entries()) {
      const offset = region.offset + index * stride * width;
      if (operand instanceof GpuTensor) this.#copyTensor(operand, region, offset);
      else gatherTensor(operand, this.#staging, offset);
    }
    return { region, stride };
  }

  /** An operand to write all of. */
  write(operand: Operand): Region {
    if (operand instanceof GpuTensor) return this.#regionOf(operand);
    const region = this.#reserve("result", operand.byteLength, contiguousStrides(operand.shape));
    this.#downloads.push({ region, tensor: operand });
    return region;
  }

  /** An operand to write some of, the rest of which must stay. */
  update(operand: Operand): Region {
    if (operand instanceof GpuTensor) return this.#regionOf(operand);
    const from = this.read(operand);
    const to = this.write(operand);
    this.#commands.push({ kind: "copy", from, to, bytes: from.size });
    return to;
  }

  /** Records a dispatch of `workgroups` workgroups; `regions` in the order of the kernel's bindings. */
  dispatch(kernel: CompiledKernel, regions: readonly Region[], workgroups: number): void {
    if (workgroups === 0) return;
    const separate = this.#separateReadsFromWrites(kernel, regions);
    this.#commands.push({
      kind: "dispatch",
      kernel,
      regions: separate,
      grid: workgroupGrid(workgroups),
      group: undefined,
    });
  }

  /** Records the download of a GPU tensor, whatever its strides. */
  download(source: GpuTensor, target: Tensor): void {
    const from = this.#regionOf(source);
    const to = this.#reserve("result", from.size, source.strides, from.first);
    this.#commands.push({ kind: "copy", from, to, bytes: from.size });
    this.#downloads.push({ region: to, tensor: target });
  }

  /** Submits what was recorded. Returns a promise when heap tensors receive results. */
  submit(): Promise<void> | undefined {
    if (this.#commands.length === 0 && this.#downloads.length === 0) return undefined;
    const downloads = this.#downloads;
    const bytes = downloads.length === 0 ? 0 : this.#used.result;
    try {
      const readback = this.#encodeAndSubmit(bytes);
      return readback === undefined ? undefined : this.#finish(readback, bytes, downloads);
    } finally {
      this.#commands = [];
      this.#downloads = [];
      this.#used.upload = 0;
      this.#used.result = 0;
      this.#used.scratch = 0;
    }
  }

  /** Reports an error that the device raised outside of any op's control. */
  fail(error: DeviceError, isLost = false): void {
    this.#failure ??= error;
    this.#isLost ||= isLost;
  }

  /** Throws what went wrong since the last call; a lost device stays lost. */
  throwFailure(): void {
    const failure = this.#failure;
    if (!this.#isLost) this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Forgets a buffer that is about to be destroyed, after submitting what may still use it. */
  forget(_buffer: GPUBuffer): void {
    void this.submit();
    this.#bindGroups.clear();
  }

  /** Watches calls that create something, and reports the device's verdict like an error of an op. */
  guard<T>(what: string, create: () => T): T {
    const { device } = this.gpu;
    device.pushErrorScope("validation");
    device.pushErrorScope("out-of-memory");
    try {
      return create();
    } finally {
      for (let scope = 0; scope < 2; scope++) {
        this.#expect(
          device
            .popErrorScope()
            .then((error) =>
              error === null ? undefined : new DeviceError(this.gpu.name, `${what}: ${error.message}`),
            ),
        );
      }
    }
  }

  /** Waits until every verdict is in. */
  async settle(): Promise<void> {
    while (this.#verdicts.size > 0) await Promise.all(this.#verdicts);
  }

  destroy(): void {
    for (const pool of Object.values(this.#pools)) pool.destroy();
    this.#readbacks.destroy();
    this.#bindGroups.clear();
  }

  #expect(verdict: Promise<DeviceError | undefined>): void {
    const noted: Promise<void> = verdict
      .then(
        (error) => {
          if (error !== undefined) this.fail(error);
        },
        () => this.fail(new DeviceError(this.gpu.name, "went away."), true),
      )
      .finally(() => this.#verdicts.delete(noted));
    this.#verdicts.add(noted);
  }

  #reserve(pool: Pool, bytes: number, strides: readonly number[], first = 0): Region {
    const offset = this.#used[pool];
    this.#checkBindable(bytes);
    const size = Math.min(reservedBytes(bytes), this.gpu.device.limits.maxStorageBufferBindingSize);
    const end = offset + Math.ceil(size / REGION_ALIGNMENT) * REGION_ALIGNMENT;
    this.#used[pool] = end;
    if (pool === "upload" && end > this.#staging.byteLength) {
      const larger = new ArrayBuffer(2 ** Math.ceil(Math.log2(end)));
      new Uint8Array(larger).set(new Uint8Array(this.#staging, 0, offset));
      this.#staging = larger;
    }
    return { home: pool, offset, size, first, strides };
  }

  #regionOf(tensor: GpuTensor): Region {
    const width = DTYPE_BYTES[tensor.dtype];
    const start = tensor.elementOffset * width;
    const offset = Math.floor(start / REGION_ALIGNMENT) * REGION_ALIGNMENT;
    const end = start + Math.max(1, spannedElements(tensor.shape, tensor.strides)) * width;
    const limit = Math.floor(tensor.buffer.size / 4) * 4;
    const size = Math.min(Math.ceil(end / 16) * 16, limit) - offset;
    this.#checkBindable(size);
    return { home: tensor.buffer, offset, size, first: (start - offset) / width, strides: tensor.strides };
  }

  #checkBindable(size: number): void {
    const largest = this.gpu.device.limits.maxStorageBufferBindingSize;
    if (size > largest) {
      throw new ArgumentError(
        "webgpu",
        "an operand",
        `at most ${largest} bytes on this device`,
        `${size} bytes`,
        "Split it, for instance into caches of fewer blocks.",
      );
    }
  }

  /** Copies a contiguous GPU tensor to a byte offset of a region. */
  #copyTensor(tensor: GpuTensor, to: Region, offset: number): void {
    const from = this.#regionOf(tensor);
    const start = from.first * DTYPE_BYTES[tensor.dtype];
    if (start % 4 !== 0) {
      throw new ArgumentError("webgpu", "a GPU operand", "aligned to 4 bytes", `at byte ${from.offset + start}`);
    }
    const bytes = Math.min(Math.ceil(tensor.byteLength / 4) * 4, from.size - start);
    const source: Region = { ...from, offset: from.offset + start };
    this.#commands.push({ kind: "copy", from: source, to: { ...to, offset }, bytes });
  }

  /** WebGPU forbids a dispatch to read a buffer by one binding and write it by another: such reads go to a copy. */
  #separateReadsFromWrites(kernel: CompiledKernel, regions: readonly Region[]): readonly Region[] {
    const written = new Set<unknown>();
    for (const [index, region] of regions.entries()) {
      const use = kernel.bindings[index];
      if (use !== "read" && use !== "uniform" && typeof region.home !== "string") written.add(region.home);
    }
    if (written.size === 0) return regions;
    return regions.map((region, index) => {
      if (kernel.bindings[index] !== "read" || !written.has(region.home)) return region;
      const copy = this.#reserve("upload", region.size, region.strides, region.first);
      this.#commands.push({ kind: "copy", from: region, to: copy, bytes: region.size });
      return copy;
    });
  }

  /** Uploads, encodes and submits; returns the buffer that the results are copied to, if there are any. */
  #encodeAndSubmit(resultBytes: number): GPUBuffer | undefined {
    const { upload, result, scratch } = this.#used;
    const grows =
      this.#pools.upload.mustGrow(upload) ||
      this.#pools.result.mustGrow(result) ||
      this.#pools.scratch.mustGrow(scratch) ||
      (resultBytes > 0 && this.#readbacks.mustGrow(resultBytes));
    let isNew = grows;
    for (const command of this.#commands) {
      if (isNew) break;
      if (command.kind === "dispatch") {
        command.group = this.#bindGroups.get(this.#bindGroupKey(command));
        isNew = command.group === undefined;
      }
    }
    return isNew ? this.guard("a submission was rejected", () => this.#encode(resultBytes)) : this.#encode(resultBytes);
  }

  #encode(resultBytes: number): GPUBuffer | undefined {
    const { device } = this.gpu;
    const { upload, result, scratch } = this.#used;
    this.#pools.result.take(result);
    this.#pools.scratch.take(scratch);
    const uploadBuffer = this.#pools.upload.take(upload);
    const readback = resultBytes > 0 ? this.#readbacks.take(resultBytes) : undefined;
    if (upload > 0) device.queue.writeBuffer(uploadBuffer, 0, this.#staging, 0, upload);
    const encoder = device.createCommandEncoder();
    let pass: GPUComputePassEncoder | undefined;
    for (const command of this.#commands) {
      if (command.kind === "dispatch") {
        pass ??= encoder.beginComputePass();
        pass.setPipeline(command.kernel.pipeline);
        pass.setBindGroup(0, this.#bindGroup(command));
        pass.dispatchWorkgroups(command.grid[0], command.grid[1]);
      } else {
        pass?.end();
        pass = undefined;
        const { from, to, bytes } = command;
        encoder.copyBufferToBuffer(this.#bufferOf(from), from.offset, this.#bufferOf(to), to.offset, bytes);
      }
    }
    pass?.end();
    if (readback !== undefined) {
      encoder.copyBufferToBuffer(this.#pools.result.take(result), 0, readback, 0, resultBytes);
    }
    device.queue.submit([encoder.finish()]);
    return readback;
  }

  async #finish(readback: GPUBuffer, bytes: number, downloads: readonly Download[]): Promise<void> {
    let broken: unknown;
    await this.#readbacks
      .read(readback, bytes, (mapped) => {
        if (this.#failure !== undefined) return;
        for (const { region, tensor } of downloads) {
          const start = region.offset + region.first * DTYPE_BYTES[tensor.dtype];
          scatterTensor(mapped, start, region.strides, tensor);
        }
      })
      .catch((error: unknown) => {
        broken = error;
      });
    if (this.#verdicts.size > 0) await this.settle();
    this.throwFailure();
    if (broken !== undefined) throw broken;
  }

  #bufferOf(region: Region): GPUBuffer {
    return typeof region.home === "string" ? this.#pools[region.home].take(0) : region.home;
  }

  #bindGroupKey(command: Dispatch): string {
    let key = `${command.kernel.id}`;
    for (const region of command.regions) {
      key += `|${this.#bufferId(this.#bufferOf(region))}:${region.offset}:${region.size}`;
    }
    return key;
  }

  #bindGroup(command: Dispatch): GPUBindGroup {
    if (command.group !== undefined) return command.group;
    const key = this.#bindGroupKey(command);
    const known = this.#bindGroups.get(key);
    if (known !== undefined) return known;
    if (this.#bindGroups.size >= MOST_BIND_GROUPS) this.#bindGroups.clear();
    const group = this.gpu.device.createBindGroup({
      layout: command.kernel.layout,
      entries: command.regions.map((region, binding) => ({
        binding,
        resource: { buffer: this.#bufferOf(region), offset: region.offset, size: region.size },
      })),
    });
    this.#bindGroups.set(key, group);
    return group;
  }

  #bufferId(buffer: GPUBuffer): number {
    const known = this.#bufferIds.get(buffer);
    if (known !== undefined) return known;
    this.#bufferIds.set(buffer, this.#nextBufferId);
    return this.#nextBufferId++;
  }
}

/** GPU tensors that lie in one buffer at equal distances, so that they can be read as one; else undefined. */
function stackOf(
  operands: readonly Operand[],
): { tensors: readonly [GpuTensor, ...GpuTensor[]]; stride: number } | undefined {
  const [first, ...rest] = operands;
  if (!(first instanceof GpuTensor)) return undefined;
  const tensors: [GpuTensor, ...GpuTensor[]] = [first];
  for (const operand of rest) {
    if (!(operand instanceof GpuTensor) || operand.buffer !== first.buffer) return undefined;
    tensors.push(operand);
  }
  const stride = (tensors[1]?.elementOffset ?? first.elementOffset + first.size) - first.elementOffset;
  const regular = tensors.every((tensor, index) => tensor.elementOffset === first.elementOffset + index * stride);
  return regular && stride >= 0 ? { tensors, stride } : undefined;
}

/** Bits of a number as an f32, for parameters. */
export function float32Bits(value: number): number {
  float[0] = value;
  return bits[0] ?? 0;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Throws unless a GPU operand is contiguous; heap operands may have any strides. */
export function expectContiguousOnGpu(operation: string, argument: string, operand: Operand): void {
  if (operand instanceof GpuTensor && !operand.isContiguous) {
    throw new ArgumentError(
      operation,
      argument,
      "contiguous when it lies on the GPU",
      `of strides [${operand.strides.join(", ")}]`,
    );
  }
}
