import { ArgumentError, contiguousStrides, DTYPE_BYTES, spannedElements, type Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../context.ts";
import type { GpuDevice } from "../device/gpu-device.ts";
import { type COPY_DST, COPY_SRC } from "../device/buffer-usage.ts";
import { type GpuTensor, noteOf } from "../gpu-tensor.ts";
import type { Operand } from "../operand.ts";
import type { Command, Download, PoolUse } from "./commands.ts";
import { type CompiledKernel, compileKernel, type KernelSource } from "./compiled-kernel.ts";
import { gpuStack } from "./gpu-stack.ts";
import { JoinedParts, partsOf } from "./joined-parts.ts";
import { gatherLate, gatherPieces, isHole, lateBytes, type LateUpload, type UploadPiece } from "./late-uploads.ts";
import { recordJoin } from "./record-join.ts";
import { type Pool, REGION_ALIGNMENT, type Region, regionsOverlap, reservedBytes } from "./region.ts";
import { STAGED_BYTES, Submitter } from "./submitter.ts";
import { type RepeatedDispatch, repeatDispatches, repeatedDispatches } from "./repeated-dispatches.ts";
import { bufferOf } from "./tensor-buffer.ts";
import { Verdicts } from "./verdicts.ts";
import { workgroupGrid } from "./workgroup-grid.ts";

/** More would leave the GPU idle while a step of many layers is recorded; fewer would cost a submission each. */
const MOST_PENDING_COMMANDS = 16;
/** From so many bytes on, an operand is not gathered before the submission. */
const LATE_BYTES = 65536;
const UNUSED: Readonly<PoolUse> = { upload: 0, result: 0, readback: 0, scratch: 0, together: 0 };

/**
 * Records what ops do, and submits it: one upload, one command buffer and, when heap tensors receive results, one
 * mapped download for everything recorded since the last submission.
 *
 * Heap operands are gathered into one staging buffer at the offsets that the recording gives them; the same sequence
 * of ops on the same shapes gets the same offsets, so its bind groups are found again and nothing is allocated. An op
 * without heap results on a device of our own is not submitted before the next op that needs it: a cache write and the
 * attention that follows it cost one submission.
 */
export class Recorder {
  readonly gpu: GpuDevice;
  readonly verdicts: Verdicts;
  readonly #context: KernelContext;
  readonly #submitter: Submitter;
  /** Bytes of the largest region that can be bound. Asking the device costs as much as much of an op. */
  readonly mostBindable: number;
  /** Storage buffers that a kernel can bind. */
  readonly mostStorageBuffers: number;
  #staging = new ArrayBuffer(65536);
  readonly #used: PoolUse = { ...UNUSED };
  #submissions = 0;
  #commands: Command[] = [];
  #downloads: Download[] = [];
  /** Large heap operands, which are gathered where they go up from, once. */
  #late: LateUpload[] = [];
  /** Lists that this submission has uploaded already. */
  readonly #shared = new Map<Uint32Array, Region>();
  readonly #sizes = new WeakMap<GPUBuffer, number>();
  /** Whether it uses a buffer of a caller's, of which nobody knows whether it still is what it was. */
  #usesCallers = false;
  /** Completions of what a batch under way had to submit early; undefined outside of a batch. */
  #batch: Promise<void>[] | undefined;

  constructor(gpu: GpuDevice, context: KernelContext) {
    this.gpu = gpu;
    this.verdicts = new Verdicts(gpu);
    this.mostBindable = gpu.device.limits.maxStorageBufferBindingSize;
    this.mostStorageBuffers = gpu.device.limits.maxStorageBuffersPerShaderStage;
    this.#context = context;
    this.#submitter = new Submitter(gpu, this.verdicts);
  }

  /**
   * Runs `record`, which records one op. What it recorded is dropped when it throws. Returns a promise when heap
   * tensors receive results.
   */
  run(record: () => void): Promise<void> | undefined {
    this.verdicts.throwFailure();
    this.#recordOrDrop(record);
    if (this.#batch !== undefined) return undefined;
    return this.#submitUnlessItMayWait();
  }

  /**
   * Runs `record`, which runs ops, and submits together what they recorded. All of it is dropped when `record` throws,
   * but for what had to be submitted before a buffer could be written or destroyed. A batch within a batch is part of
   * it.
   */
  batch(record: () => void): Promise<void> | undefined {
    if (this.#batch !== undefined) {
      this.#recordOrDrop(record);
      return undefined;
    }
    const early: Promise<void>[] = [];
    this.#batch = early;
    try {
      this.#recordOrDrop(record);
    } catch (error) {
      for (const done of early) done.catch(() => undefined);
      throw error;
    } finally {
      this.#batch = undefined;
    }
    const last = this.#submitUnlessItMayWait();
    if (early.length === 0) return last;
    return Promise.all([...early, last]).then(() => undefined);
  }

  /**
   * When nobody waits for what was recorded it goes with what comes next, but with its operands as they are now. Many
   * bytes of operands go at once: they would be copied once more.
   */
  #submitUnlessItMayWait(): Promise<void> | undefined {
    const isFew = this.#commands.length < MOST_PENDING_COMMANDS && lateBytes(this.#late) < STAGED_BYTES;
    const mayWait = this.#downloads.length === 0 && this.gpu.owned && isFew;
    if (!mayWait) return this.submit();
    this.gatherOperands();
    return undefined;
  }

  /** To be called before a heap operand of what was recorded changes. */
  gatherOperands(): void {
    gatherLate(this.#late, this.#staging);
    this.#late = this.#late.filter(isHole);
  }

  #recordOrDrop(record: () => void): void {
    const { length: commands } = this.#commands;
    const { length: downloads } = this.#downloads;
    const { length: late } = this.#late;
    const used = { ...this.#used };
    const submissions = this.#submissions;
    try {
      record();
    } catch (error) {
      const isSubmitted = this.#submissions !== submissions;
      this.#commands.length = isSubmitted ? 0 : commands;
      this.#downloads.length = isSubmitted ? 0 : downloads;
      this.#late.length = isSubmitted ? 0 : late;
      Object.assign(this.#used, isSubmitted ? UNUSED : used);
      this.#shared.clear();
      throw error;
    }
  }

  /** A kernel of the context, compiled when it is asked for the first time. */
  kernel(source: KernelSource): CompiledKernel {
    return this.#context.get(source.key, () => compileKernel(this.gpu, source, this.verdicts));
  }

  /** 32-bit parameters of a kernel, to be bound as a uniform. */
  uniform(values: ArrayLike<number>): Region {
    return this.words(values, Math.ceil(values.length / 4) * 16);
  }

  /** 32-bit unsigned integers for a kernel to read; negative ones as their two's complement. */
  words(values: ArrayLike<number>, bytes = values.length * 4): Region {
    const region = this.#reserve("upload", bytes, []);
    const words = new Uint32Array(this.#staging, region.offset, values.length);
    words.set(values);
    return region;
  }

  /** {@link words} of a list that does not change: ops of one submission share them. */
  sharedWords(values: Uint32Array): Region {
    const known = this.#shared.get(values);
    if (known !== undefined) return known;
    const region = this.words(values);
    this.#shared.set(values, region);
    return region;
  }

  /** Memory that lives for this submission. */
  scratch(bytes: number): Region {
    return this.#reserve("scratch", bytes, []);
  }

  /** Memory for an operand that is put together, for this submission. */
  together(bytes: number, strides: readonly number[]): Region {
    return this.#reserve("together", bytes, strides);
  }

  /** An operand to read. */
  read(operand: Operand): Region {
    if (operand.place === "device") {
      const { memory } = operand;
      return memory instanceof JoinedParts ? this.#readJoined(operand, memory) : this.#regionOf(operand);
    }
    const region = this.#reserve("upload", operand.byteLength, contiguousStrides(operand.shape));
    this.#gather(operand, region.offset);
    return region;
  }

  /** Parts that all come from the heap are gathered to their places in what goes up; others are copied together. */
  #readJoined(operand: GpuTensor, joined: JoinedParts): Region {
    const parts = partsOf(operand, joined);
    const strides = contiguousStrides(operand.shape);
    const width = DTYPE_BYTES[operand.dtype];
    const pieces: { tensor: Tensor; first: number }[] = [];
    let along = 0;
    for (const part of parts) {
      if (part.place === "device") return recordJoin(this, parts);
      pieces.push({ tensor: part, first: along * (strides[1] ?? 0) * width });
      along += part.shape[1] ?? 0;
    }
    const region = this.#reserve("upload", operand.byteLength, strides);
    const placed = pieces.map(({ tensor, first }) => ({ tensor, at: region.offset + first, strides }));
    this.#gatherAll(placed, region.offset, operand.byteLength);
    return region;
  }

  /** Puts an operand at an offset of what goes up: small ones now, others where they go up from. */
  #gather(tensor: Tensor, offset: number): void {
    this.#gatherAll([{ tensor, at: offset, strides: contiguousStrides(tensor.shape) }], offset, tensor.byteLength);
  }

  #gatherAll(pieces: readonly UploadPiece[], offset: number, bytes: number): void {
    if (bytes < LATE_BYTES) gatherPieces(pieces, this.#staging);
    else this.#late.push({ pieces, offset, bytes });
  }

  /**
   * Operands of one dtype and shape to read, one after another: operand i lies `stride` elements behind i - 1. Those of
   * the heap, and of several places, have no gaps then; those that lie in one buffer at equal distances stay as they are.
   */
  readStack(operands: readonly Operand[]): { region: Region; stride: number } {
    const inPlace = gpuStack(operands);
    if (inPlace !== undefined) return { region: this.#regionOf(inPlace), stride: inPlace.strides[0] ?? 0 };
    const [first] = operands;
    if (first === undefined) throw new RangeError("readStack needs an operand");
    const width = DTYPE_BYTES[first.dtype];
    const stride = Math.ceil((first.size * width) / 16) * (16 / width);
    const region = this.#reserve("upload", operands.length * stride * width, []);
    for (const [index, operand] of operands.entries()) {
      const offset = region.offset + index * stride * width;
      if (operand.place === "heap") this.#gather(operand, offset);
      else {
        this.#copyTensor(operand, region, offset);
        // Whole multiples of what copies go by.
        const bytes = Math.floor((stride * width) / 4) * 4;
        if (bytes >= LATE_BYTES) this.#late.push({ pieces: [], offset, bytes });
      }
    }
    return { region, stride };
  }

  /** An operand to write all of. */
  write(operand: Operand): Region {
    if (operand.place === "device") return this.#regionOf(operand);
    const region = this.#reserve("result", operand.byteLength, contiguousStrides(operand.shape));
    this.#downloads.push({ region, tensor: operand });
    return region;
  }

  /** An operand to write some of, the rest of which must stay. */
  update(operand: Operand): Region {
    if (operand.place === "device") return this.#regionOf(operand);
    const from = this.read(operand);
    const to = this.write(operand);
    this.#commands.push({ kind: "copy", from, to, bytes: from.size });
    return to;
  }

  /** Records a dispatch of `workgroups` workgroups; `regions` in the order of the kernel's bindings. */
  dispatch(kernel: CompiledKernel, regions: readonly Region[], workgroups: number): void {
    if (workgroups === 0) return;
    const separate = this.#separateReadsFromWrites(kernel, regions);
    this.#commands.push({ kind: "dispatch", kernel, regions: separate, grid: workgroupGrid(workgroups) });
  }

  /**
   * Runs `record`, which records an op whose operands lie on the GPU. Returns what to repeat when the same operands come
   * again; undefined when that cannot be.
   */
  recordRepeatable(record: () => void): readonly RepeatedDispatch[] | undefined {
    const [first, submissions] = [this.#commands.length, this.#submissions];
    record();
    if (this.#submissions !== submissions || !this.gpu.owned) return undefined;
    return repeatedDispatches(this.#commands.slice(first), this.#staging);
  }

  /** Records what was recorded before. */
  repeat(repeated: readonly RepeatedDispatch[]): void {
    this.#commands.push(...repeatDispatches(repeated, (words) => this.words(words)));
  }

  /** True within a batch. */
  get isBatching(): boolean {
    return this.#batch !== undefined;
  }

  /**
   * Records the upload of a heap tensor to a contiguous GPU tensor that begins and ends at whole words, or ends its
   * buffer.
   */
  upload(source: Tensor, target: GpuTensor): void {
    const from = this.read(source);
    const to = this.#regionOf(target);
    const start = to.first * DTYPE_BYTES[target.dtype];
    const bytes = Math.min(Math.ceil(source.byteLength / 4) * 4, to.size - start);
    this.#commands.push({ kind: "copy", from, to: { ...to, offset: to.offset + start }, bytes });
  }

  /** Records the download of a GPU tensor, whatever its strides, as it is once the commands before it have run. */
  download(source: GpuTensor, target: Tensor): void {
    const from = this.#regionOf(source);
    this.expectUsage("download", "source", bufferOf(source), COPY_SRC);
    const to = this.#reserve("readback", from.size, source.strides, from.first);
    this.#commands.push({ kind: "copy", from, to, bytes: from.size });
    this.#downloads.push({ region: to, tensor: target });
  }

  /** Submits what was recorded before something that is not recorded happens. Results of a batch stay the batch's. */
  flush(): void {
    const done = this.submit();
    if (done !== undefined) this.#batch?.push(done);
  }

  /** What was recorded since the last submission; `staging` holds what goes up, each part at its region's offset. */
  protected get recorded(): { readonly commands: readonly Command[]; readonly staging: ArrayBuffer } {
    return { commands: this.#commands, staging: this.#staging };
  }

  /** Submits what was recorded. Returns a promise when heap tensors receive results. */
  submit(): Promise<void> | undefined {
    if (this.#commands.length === 0 && this.#downloads.length === 0) return undefined;
    try {
      // On a device of our own what goes wrong is heard in any case.
      const isDoubtful = this.#usesCallers && !this.gpu.owned;
      return this.#submitter.submit(this.#commands, this.#staging, this.#used, this.#downloads, this.#late, isDoubtful);
    } finally {
      this.#usesCallers = false;
      this.#commands = [];
      this.#downloads = [];
      this.#late = [];
      Object.assign(this.#used, UNUSED);
      this.#shared.clear();
      this.#submissions++;
    }
  }

  /** To be called before a GPU tensor's buffer is destroyed: submits what may still use it. */
  releaseBuffers(): void {
    this.flush();
    this.#submitter.forgetBuffers();
  }

  destroy(): void {
    this.#submitter.destroy();
  }

  #reserve(pool: Pool, bytes: number, strides: readonly number[], first = 0): Region {
    const offset = this.#used[pool];
    this.#checkBindable(bytes);
    const size = Math.min(reservedBytes(bytes), this.mostBindable);
    const end = offset + Math.ceil(size / REGION_ALIGNMENT) * REGION_ALIGNMENT;
    this.#used[pool] = end;
    if (pool === "upload" && end > this.#staging.byteLength) {
      const larger = new ArrayBuffer(2 ** Math.ceil(Math.log2(end)));
      new Uint8Array(larger).set(new Uint8Array(this.#staging, 0, offset));
      this.#staging = larger;
    }
    return { home: pool, offset, size, first, strides };
  }

  /** Throws for a GPU tensor that is known to be of another device. */
  expectOwn(tensor: GpuTensor): void {
    const note = noteOf(tensor.buffer);
    if (note?.callersUsage !== undefined) this.#usesCallers = true;
    if (note?.device === undefined || note.device === this.gpu.device) return;
    throw new ArgumentError("webgpu", "a GPU operand", "one of this backend's device", "one of another device");
  }

  /** Throws for a buffer of a caller's that lacks a usage. */
  expectUsage(operation: string, argument: string, buffer: GPUBuffer, usage: typeof COPY_SRC | typeof COPY_DST): void {
    const usages = noteOf(buffer)?.callersUsage;
    if (usages === undefined || (usages & usage) !== 0) return;
    const name = usage === COPY_SRC ? "COPY_SRC" : "COPY_DST";
    throw new ArgumentError(operation, argument, `in a buffer of usage GPUBufferUsage.${name}`, `in one of ${usages}`);
  }

  #regionOf(tensor: GpuTensor): Region {
    if (tensor.memory instanceof JoinedParts) {
      throw new ArgumentError("webgpu", "an operand", "one that lies in one place", "one that is joined from parts");
    }
    this.expectOwn(tensor);
    const width = DTYPE_BYTES[tensor.dtype];
    const start = tensor.elementOffset * width;
    const offset = Math.floor(start / REGION_ALIGNMENT) * REGION_ALIGNMENT;
    const end = start + Math.max(1, spannedElements(tensor.shape, tensor.strides)) * width;
    const limit = this.#sizeOf(bufferOf(tensor));
    const size = Math.min(Math.ceil(end / 16) * 16, limit) - offset;
    this.#checkBindable(size);
    return { home: bufferOf(tensor), offset, size, first: (start - offset) / width, strides: tensor.strides };
  }

  /** Whole words of a buffer, in bytes. Asking it costs as much as much of an op. */
  #sizeOf(buffer: GPUBuffer): number {
    let size = this.#sizes.get(buffer);
    if (size === undefined) {
      size = Math.floor(buffer.size / 4) * 4;
      this.#sizes.set(buffer, size);
    }
    return size;
  }

  #checkBindable(size: number): void {
    const largest = this.mostBindable;
    if (size <= largest) return;
    const advice = "Split it, for instance into caches of fewer blocks.";
    throw new ArgumentError("webgpu", "an operand", `at most ${largest} bytes on this device`, `${size} bytes`, advice);
  }

  /** Copies a contiguous GPU tensor to a byte offset of a region. */
  #copyTensor(tensor: GpuTensor, to: Region, offset: number): void {
    const from = this.#regionOf(tensor);
    this.expectUsage("webgpu", "a GPU operand that lies apart from others of its list", bufferOf(tensor), COPY_SRC);
    const start = from.first * DTYPE_BYTES[tensor.dtype];
    if (start % 4 !== 0) {
      throw new ArgumentError("webgpu", "a GPU operand", "aligned to 4 bytes", `at byte ${from.offset + start}`);
    }
    const bytes = Math.min(Math.ceil(tensor.byteLength / 4) * 4, from.size - start);
    const source: Region = { ...from, offset: from.offset + start };
    this.#commands.push({ kind: "copy", from: source, to: { ...to, offset }, bytes });
  }

  /**
   * WebGPU forbids a dispatch to read a buffer by one binding and write it by another: such reads go to a copy. Two
   * results may lie in one buffer where their bindings do not meet.
   */
  #separateReadsFromWrites(kernel: CompiledKernel, regions: readonly Region[]): readonly Region[] {
    const written: Region[] = [];
    for (const [index, region] of regions.entries()) {
      const use = kernel.bindings[index];
      if (use === "read" || use === "uniform" || typeof region.home === "string") continue;
      if (written.some((other) => regionsOverlap(other, region))) {
        const apart = `in blocks of ${REGION_ALIGNMENT} bytes that differ`;
        throw new ArgumentError("webgpu", "two results in one GPU buffer", apart, "in one block");
      }
      written.push(region);
    }
    if (written.length === 0) return regions;
    return regions.map((region, index) => {
      const { home } = region;
      const isWritten = written.some((other) => other.home === home);
      if (kernel.bindings[index] !== "read" || typeof home === "string" || !isWritten) return region;
      this.expectUsage("webgpu", "what is read of a buffer that is also written", home, COPY_SRC);
      const copy = this.#reserve("upload", region.size, region.strides, region.first);
      this.#commands.push({ kind: "copy", from: region, to: copy, bytes: region.size });
      return copy;
    });
  }
}
