import {
  ArgumentError,
  checkDType,
  checkShape,
  DTYPE_BYTES,
  type DType,
  elementCount,
  type SharedHeap,
  type Tensor,
} from "@lockstep/tensor";
import type { Completion, KernelBackend } from "./backend.ts";
import { OpMethods } from "./op-methods.ts";
import type { OpOutcome, OpsTogether } from "./ops-together.ts";
import { KernelContext } from "../context.ts";
import type { AdapterKind } from "../device/adapter.ts";
import { type GpuDevice, openGpuDevice } from "../device/gpu-device.ts";
import { BackendClosed, DeviceError } from "../errors.ts";
import { GpuTensor, noteDevice, noteFreed } from "../gpu-tensor.ts";
import { checkDownload, checkUpload } from "./copy-arguments.ts";
import { expectFunction, type Operand } from "../operand.ts";
import { type OpArguments, type OpName, opResults, planOp } from "../ops/op-table.ts";
import { recordPackSeq } from "../ops/pack-seq/webgpu.ts";
import type { MatrixUnits } from "../device/matrix-units.ts";
import { AttentionPlan, type AttentionStep } from "../ops/partial-attention/attention-plan.ts";
import { gpuSumsBorder, gpuSumsWidth } from "../ops/partial-attention/continued-sums.ts";
import type { PartialAttentionArgs } from "../ops/partial-attention/index.ts";
import { RepeatedAttention } from "../ops/partial-attention/repeated-attention.ts";
import { recordPartialAttention } from "../ops/partial-attention/webgpu.ts";
import { RepeatedArguments } from "../ops/repeated-arguments.ts";
import { type CheckedOp, GPU_OPS, GPU_OPS_TOGETHER } from "../ops/webgpu-ops.ts";
import type { PagedCacheSize } from "../kv/paged-cache-size.ts";
import { COPY_DST, COPY_SRC, STORAGE } from "../device/buffer-usage.ts";
import { expectContiguousOnGpu } from "../webgpu/contiguous.ts";
import { joinParts } from "../webgpu/joined-parts.ts";
import { Recorder } from "../webgpu/recorder.ts";
import type { RepeatedDispatch } from "../webgpu/repeated-dispatches.ts";
import { gatherTensor } from "../webgpu/strided-copy.ts";
import { bufferOf } from "../webgpu/tensor-buffer.ts";

/** How to open the `webgpu` backend. */
export interface WebgpuBackendOptions {
  /** The heap that `Tensor` operands lie in. */
  readonly heap: SharedHeap;
  /** Default "hardware". "software" is for tests. Ignored when a device is given. */
  readonly adapter?: AdapterKind;
  /** A device of the caller's, used as it is and never destroyed. */
  readonly device?: GPUDevice;
  /** Which of several GPUs; see GpuDeviceOptions. Default: the one that the system prefers. */
  readonly index?: number;
  /** false: kernels use workgroup memory even where there are subgroups. Default true. */
  readonly subgroups?: boolean;
  /**
   * "native": attention over an f16 cache uses matrix units where the device has them, which rounds the softmax weights
   * to f16. "off": always f32 arithmetic. "emulated", for tests: the kernels for matrix units in plain arithmetic,
   * slowly. Default "native".
   */
  readonly matrices?: MatrixUnits | "off";
  /** true: a row's bits depend on its own tokens alone; false: the fastest for each step. Default false. */
  readonly batchInvariant?: boolean;
}

/**
 * Opens the `webgpu` backend. Throws BackendUnavailable, saying what to install, when there is no such adapter.
 * Close it before the worker it was opened in ends.
 */
export async function openWebgpuBackend(options: WebgpuBackendOptions): Promise<KernelBackend> {
  const { heap, ...deviceOptions } = options;
  return webgpuBackendOn(heap, await openGpuDevice(deviceOptions));
}

/** The `webgpu` backend on an open device, which it releases when it is closed. */
export function webgpuBackendOn(heap: SharedHeap, gpu: GpuDevice): KernelBackend {
  return new WebgpuBackend(heap, gpu);
}

class WebgpuBackend extends OpMethods implements KernelBackend {
  readonly name = "webgpu";
  readonly device: string;
  readonly context = new KernelContext();
  readonly isSynchronous = false;
  readonly memory = "device";
  readonly batchInvariant: boolean;
  readonly roundsAsCollectives = false;
  readonly together: OpsTogether = {
    takes: (name): name is OpName => Object.hasOwn(GPU_OPS_TOGETHER, name),
    run: (name, list) => this.#runTogether(name, list),
  };
  /** What ops recorded that ran together. */
  readonly #repeated = new RepeatedArguments<readonly RepeatedDispatch[]>();
  readonly #attention = new RepeatedAttention();
  readonly #heap: SharedHeap;
  readonly #gpu: GpuDevice;
  readonly #recorder: Recorder;
  /** Buffers of living tensors that `empty` made. */
  readonly #tensors = new Set<GPUBuffer>();
  /** Ops whose results are still to come. */
  readonly #running = new Set<Promise<void>>();
  readonly #onError = (event: Event): void => {
    event.preventDefault();
    this.#recorder.verdicts.fail(new DeviceError(this.device, (event as GPUUncapturedErrorEvent).error.message));
  };
  #closing: Promise<void> | undefined;

  constructor(heap: SharedHeap, gpu: GpuDevice) {
    super();
    this.#heap = heap;
    this.#gpu = gpu;
    this.device = gpu.name;
    this.batchInvariant = gpu.batchInvariant;
    this.#recorder = new Recorder(gpu, this.context);
    // On a caller's device such errors may be the caller's.
    if (gpu.owned) gpu.device.addEventListener("uncapturederror", this.#onError as EventListener);
    void gpu.device.lost.then((info) => {
      const reason = info.message === "" ? info.reason : info.message;
      this.#recorder.verdicts.fail(
        new DeviceError(this.device, `the device was lost (${reason}). Open a new backend.`),
        true,
      );
    });
  }

  protected op<Name extends OpName>(name: Name, args: OpArguments[Name]): Completion {
    this.#expectOpen();
    const plan = planOp(name, args);
    return this.#run(() => GPU_OPS[name](this.#recorder, args, plan));
  }

  override partialAttention(args: PartialAttentionArgs): Completion {
    this.#expectOpen();
    const known = this.#gpu.owned ? this.#attention.find(args) : undefined;
    const plan = known?.plan ?? planOp("partialAttention", args);
    return this.#run(() => {
      recordPartialAttention(this.#recorder, args, plan, known?.operands);
      if (known === undefined) this.#attention.note(this.#recorder, args, plan);
    });
  }

  #runTogether<Name extends OpName>(name: Name, list: readonly OpArguments[Name][]): OpOutcome[] {
    this.#expectOpen();
    const [first] = list;
    const key = first && opResults(name, first)[0];
    const repeated = key && this.#repeated.find(key, list);
    if (repeated !== undefined) {
      const failed = outcomeOf(() => void this.#run(() => this.#recorder.repeat(repeated)));
      return list.map(() => failed);
    }
    const outcomes: OpOutcome[] = [];
    const checked: (CheckedOp<Name> & { readonly index: number })[] = [];
    for (const [index, args] of list.entries()) {
      outcomes[index] = outcomeOf(() => checked.push({ args, plan: planOp(name, args), index }));
    }
    const record = GPU_OPS_TOGETHER[name];
    const recordAll = (): void => {
      const made = this.#recorder.recordRepeatable(() => record?.(this.#recorder, checked));
      const isWhole = checked.length === list.length;
      if (key !== undefined && made !== undefined && isWhole) this.#repeated.note(key, list, () => made);
    };
    const failed = record && outcomeOf(() => void this.#run(recordAll));
    if (record !== undefined && failed === undefined) return outcomes;
    // One by one, so that each is told what is wrong with its own.
    for (const { args, plan, index } of checked) {
      outcomes[index] = outcomeOf(() => void this.#run(() => GPU_OPS[name](this.#recorder, args, plan)));
    }
    return outcomes;
  }

  sumsWidth(valueDim: number): number | undefined {
    return gpuSumsWidth(this.batchInvariant, valueDim);
  }

  sumsBorder(keyDim: number, valueDim: number): number {
    return gpuSumsBorder(this.batchInvariant, keyDim, valueDim);
  }

  planAttention(step: AttentionStep, size: PagedCacheSize): AttentionPlan {
    this.#expectOpen();
    return new AttentionPlan(step, size, this.#heap);
  }

  empty(dtype: DType, shape: readonly number[]): GpuTensor {
    this.#expectOpen();
    checkDType("empty", "dtype", dtype);
    checkShape("empty", "shape", shape);
    const bytes = elementCount(shape) * DTYPE_BYTES[dtype];
    const { maxBufferSize, maxStorageBufferBindingSize } = this.#gpu.device.limits;
    const largest = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    if (!(bytes <= largest)) {
      const advice = "Make several smaller tensors.";
      throw new ArgumentError("empty", "shape", `of at most ${largest} bytes on this device`, `${bytes} bytes`, advice);
    }
    const size = Math.max(16, Math.ceil(bytes / 16) * 16);
    const usage = STORAGE | COPY_SRC | COPY_DST;
    const buffer = this.#recorder.verdicts.guard(`cannot allocate ${bytes} bytes`, () =>
      this.#gpu.device.createBuffer({ label: `lockstep ${dtype} [${shape.join(", ")}]`, size, usage }),
    );
    this.#tensors.add(buffer);
    noteDevice(buffer, this.#gpu.device);
    return new GpuTensor(buffer, dtype, [...shape], undefined, 0, () => this.#free(buffer));
  }

  upload(source: Tensor, target: Operand): Completion {
    this.#expectOpen();
    checkUpload(source, target);
    expectContiguousOnGpu("upload", "target", target);
    if (target.place === "heap") {
      target.copyFrom(source);
      return undefined;
    }
    this.#recorder.expectOwn(target);
    const start = target.byteOffset;
    const end = start + target.byteLength;
    const isWhole = start === 0 && end > target.buffer.size - 16;
    if (start % 4 !== 0 || (end % 4 !== 0 && !isWhole)) return this.#uploadPartWords(source, target);
    this.#recorder.expectUsage("upload", "target", bufferOf(target), COPY_DST);
    this.#recorder.verdicts.throwFailure();
    if (this.#recorder.isBatching && source.byteLength <= MOST_BATCHED_BYTES) {
      return this.#run(() => this.#recorder.upload(source, target));
    }
    this.#recorder.flush();
    writeTensor(this.#gpu.device.queue, source, bufferOf(target), start);
    return undefined;
  }

  join(parts: readonly Operand[]): GpuTensor {
    this.#expectOpen();
    return joinParts(parts);
  }

  download(source: Operand, target: Tensor): Completion {
    this.#expectOpen();
    checkDownload(source, target);
    if (source.place === "heap") {
      target.copyFrom(source);
      return undefined;
    }
    return this.#run(() => this.#recorder.download(source, target));
  }

  batch(run: () => void): Completion {
    this.#expectOpen();
    expectFunction("batch", "run", run);
    return this.#track(this.#recorder.batch(run));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#running);
    await this.#recorder.verdicts.settle();
    this.#gpu.device.removeEventListener("uncapturederror", this.#onError as EventListener);
    this.#recorder.destroy();
    for (const buffer of this.#tensors) {
      noteFreed(buffer);
      buffer.destroy();
    }
    this.#tensors.clear();
    this.context.clear();
    await this.#gpu.release();
  }

  #run(record: () => void): Completion {
    this.#expectOpen();
    return this.#track(this.#recorder.run(record));
  }

  /** Notes an op that is under way, so that closing waits for it. */
  #track(completion: Promise<void> | undefined): Completion {
    if (completion === undefined) return undefined;
    const running = completion.finally(() => this.#running.delete(running));
    this.#running.add(running);
    return running;
  }

  #expectOpen(): void {
    if (this.#closing !== undefined) throw new BackendClosed(this.name);
  }

  /** Uploads to a place that shares words with other elements: a kernel stores the elements one by one. */
  #uploadPartWords(source: Tensor, target: GpuTensor): Completion {
    const flatTarget = new GpuTensor(target.buffer, target.dtype, [1, target.size], undefined, target.elementOffset);
    const flatSource = source.contiguous(this.#heap).reshape([source.size]);
    try {
      const lengths = [source.size];
      return this.#run(() => recordPackSeq(this.#recorder, { x: flatSource, lengths, out: flatTarget }, 0));
    } finally {
      this.#recorder.gatherOperands();
      if (!source.isContiguous) flatSource.free();
    }
  }

  #free(buffer: GPUBuffer): void {
    if (!this.#tensors.delete(buffer)) return;
    this.#recorder.releaseBuffers();
    buffer.destroy();
  }
}

function outcomeOf(run: () => unknown): OpOutcome {
  try {
    run();
  } catch (error) {
    return { error };
  }
  return undefined;
}

const UPLOAD_BYTES = 1 << 26;
/** Larger uploads within a batch go to the device by themselves, so that the staging memory need not hold them. */
const MOST_BATCHED_BYTES = 1 << 20;

/** Writes a heap tensor's bytes, padded to whole words, to a word-aligned place of a buffer. */
function writeTensor(queue: GPUQueue, source: Tensor, buffer: GPUBuffer, start: number): void {
  const words = Math.floor(source.byteLength / 4) * 4;
  if (source.isContiguous && words === source.byteLength) {
    for (let at = 0; at < words; at += UPLOAD_BYTES) {
      const bytes = Math.min(UPLOAD_BYTES, words - at);
      const view = new Uint8Array(source.heap.buffer, source.byteOffset + at, bytes);
      // Dawn takes views of shared memory, though the types do not say so.
      queue.writeBuffer(buffer, start + at, view as Uint8Array as Uint8Array<ArrayBuffer>);
    }
    return;
  }
  const staging = new ArrayBuffer(Math.ceil(source.byteLength / 4) * 4);
  gatherTensor(source, staging, 0);
  queue.writeBuffer(buffer, start, staging);
}
