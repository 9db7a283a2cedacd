import { type Completion, GpuTensor, KernelContext, type KernelBackend, type Operand } from "@lockstep/kernels";
import { type DType, DTYPE_BYTES, elementCount, SharedHeap, Tensor } from "@lockstep/tensor";
import type { AdapterKind } from "../../libs/kernels/src/device/adapter.ts";
import { DAWN_TOGGLES } from "../../libs/kernels/src/device/find-adapter.ts";
import { type GpuDevice, openGpuDevice } from "../../libs/kernels/src/device/gpu-device.ts";
import { Recorder } from "../../libs/kernels/src/webgpu/recorder.ts";
import { webgpuBackendOn } from "../../libs/kernels/src/backends/webgpu-backend.ts";
import { GpuTimer } from "./gpu-timer.ts";
import { countWords, fillRandom, fillWord } from "./fill.ts";
import { spin } from "./spin.ts";
import type { RandomValues } from "./random-values.ts";

/** Words that no result holds: a NaN with this payload in f32, and in both halves of a word for 16 bits. */
const POISON: Readonly<Record<number, number>> = { 4: 0x7fabcdef, 2: 0x7fad7fad };

/** Passes per figure; the median counts. */
const REPEATS = 7;
/** GPU time that a pass should last. */
const PASS_SECONDS = 4e-3;
/** The GPU is kept busy for so long before what counts. */
const WARM_UP_MS = 500;
/** The longest that the GPU is kept busy while a pass is recorded. */
const MOST_BUSY_SECONDS = 0.5;
/** Below the number of commands after which the backend submits by itself, two dispatches a call. */
const MOST_CALLS = 100;

/** An open device with a backend whose dispatches can be timed on the GPU, and the tools to fill and check buffers. */
export class GpuBench {
  readonly heap = SharedHeap.create(1 << 28);
  readonly backend: KernelBackend;
  readonly recorder: Recorder;
  readonly gpu: GpuDevice;
  readonly #timer: GpuTimer;
  readonly #probe: Operand;
  readonly #probeTarget: Tensor;
  readonly #spun: GpuTensor;
  /** 0: the device is software, whose clocks are the CPU's. */
  #spinsPerSecond = 0;

  private constructor(gpu: GpuDevice, timer: GpuTimer) {
    this.#timer = timer;
    this.gpu = { ...gpu, passTimestamps: () => timer.nextPass() };
    this.backend = webgpuBackendOn(this.heap, this.gpu);
    this.recorder = new Recorder(this.gpu, new KernelContext());
    this.#probe = this.backend.empty("u32", [1]);
    this.#probeTarget = Tensor.empty(this.heap, "u32", [1]);
    this.#spun = this.empty("f32", [1]);
  }

  /** `enable` and `disable`: Dawn's toggles beside ours. */
  static async open(
    adapter: AdapterKind,
    matrices: "native" | "off",
    batchInvariant: boolean,
    enable: readonly string[],
    disable: readonly string[],
  ): Promise<GpuBench> {
    const ours = DAWN_TOGGLES[adapter === "software" ? "software" : "hardware"];
    const toggles = [...ours, "allow_unsafe_apis", ...enable];
    const gpu = await openGpuDevice({
      adapter,
      matrices,
      batchInvariant,
      features: ["timestamp-query"],
      dawnOptions: [
        `enable-dawn-features=${toggles.filter((name) => !disable.includes(name)).join(",")}`,
        `disable-dawn-features=${["timestamp_quantization", ...disable].join(",")}`,
      ],
    });
    const bench = new GpuBench(gpu, new GpuTimer(gpu.device));
    if (!gpu.software) await bench.#measureSpin();
    return bench;
  }

  /** A GPU tensor of random values. */
  async random(values: RandomValues, shape: readonly number[]): Promise<GpuTensor> {
    const tensor = this.empty(values.dtype, shape);
    await this.recorder.run(() => fillRandom(this.recorder, tensor, values));
    await this.recorder.submit();
    return tensor;
  }

  empty(dtype: DType, shape: readonly number[]): GpuTensor {
    const tensor = this.backend.empty(dtype, shape);
    if (!(tensor instanceof GpuTensor)) throw new TypeError("the backend computes on a GPU");
    return tensor;
  }

  async poison(tensor: GpuTensor): Promise<void> {
    await this.recorder.run(() => fillWord(this.recorder, tensor, POISON[DTYPE_BYTES[tensor.dtype]] ?? 0));
    await this.recorder.submit();
  }

  /** Throws when an element of a poisoned tensor was not written. */
  async expectWritten(name: string, tensor: GpuTensor): Promise<void> {
    const count = Tensor.zeros(this.heap, "u32", [1]);
    const word = POISON[DTYPE_BYTES[tensor.dtype]] ?? 0;
    await this.recorder.run(() => countWords(this.recorder, tensor, word, count));
    const left = count.elements[0] ?? 0;
    count.free();
    if (left > 0) throw new Error(`${name}: ${left} words were not written`);
  }

  /** Runs an op to its end, though it leaves its results on the GPU. */
  async finish(run: () => Completion): Promise<void> {
    await run();
    await this.backend.download(this.#probe, this.#probeTarget);
  }

  /** Elements of a GPU tensor as numbers. */
  async numbers(source: GpuTensor): Promise<Float64Array> {
    const target = Tensor.empty(this.heap, source.dtype, source.shape);
    await this.backend.download(source, target);
    const numbers = target.toNumbers();
    target.free();
    return numbers;
  }

  /** Median GPU seconds of one call, over passes of many calls; `call` counts up, to rotate buffers with. */
  async secondsPerCall(run: (call: number) => Completion): Promise<number> {
    const flush = (): Completion => this.backend.download(this.#probe, this.#probeTarget);
    return this.#secondsPerCall(
      (call) => void run(call),
      flush,
      (calls) => this.backend.batch(calls),
    );
  }

  /** The same for what is recorded directly. */
  async secondsPerRecord(record: (call: number) => void): Promise<number> {
    const probe = this.#probe;
    if (!(probe instanceof GpuTensor)) throw new TypeError("the backend computes on a GPU");
    const flush = (): Completion => this.recorder.run(() => this.recorder.download(probe, this.#probeTarget));
    const run = (call: number): void => void this.recorder.run(() => record(call));
    return this.#secondsPerCall(run, flush, (calls) => this.recorder.batch(calls));
  }

  /** @param batch keeps calls together, so that they are one compute pass */
  async #secondsPerCall(
    run: (call: number) => void,
    flush: () => Completion,
    batch: (calls: () => void) => Completion,
  ): Promise<number> {
    let next = 0;
    // What recording a pass took, while the GPU had something else to do.
    let recorded = 0;
    const pass = async (calls: number): Promise<number> => {
      await flush();
      this.#keepBusy(1e-3 + 1.5 * recorded);
      this.#timer.arm();
      const started = performance.now();
      await batch(() => {
        for (let call = 0; call < calls; call++) run(next++);
      });
      recorded = (performance.now() - started) / 1e3;
      await flush();
      return (await this.#timer.seconds()) / calls;
    };
    await pass(2);
    recorded = 0;
    const estimate = await pass(4);
    const calls = Math.max(4, Math.min(MOST_CALLS, Math.ceil(PASS_SECONDS / Math.max(estimate, 1e-7))));
    recorded *= calls / 4;
    // An idle GPU lowers its clocks, and takes a while to raise them again.
    const warmUntil = performance.now() + WARM_UP_MS;
    while (performance.now() < warmUntil) await pass(calls);
    const seconds: number[] = [];
    for (let repeat = 0; repeat < REPEATS; repeat++) seconds.push(await pass(calls));
    seconds.sort((a, b) => a - b);
    return seconds[REPEATS >> 1] ?? 0;
  }

  /** Gives the GPU something to do for about so many seconds. */
  #keepBusy(seconds: number): void {
    const steps = Math.ceil(Math.min(MOST_BUSY_SECONDS, seconds) * this.#spinsPerSecond);
    if (steps > 0) spin(this.recorder, this.#spun, steps);
  }

  /** Finds how fast {@link spin} runs. */
  async #measureSpin(): Promise<void> {
    const secondsOf = async (steps: number): Promise<number> => {
      const started = performance.now();
      spin(this.recorder, this.#spun, steps);
      await this.backend.download(this.#probe, this.#probeTarget);
      return (performance.now() - started) / 1e3;
    };
    await secondsOf(1e6);
    const short = await secondsOf(1e5);
    this.#spinsPerSecond = 1e7 / Math.max(1e-3, (await secondsOf(1e7 + 1e5)) - short);
  }

  async close(): Promise<void> {
    await this.recorder.submit();
    this.recorder.destroy();
    this.#timer.destroy();
    await this.backend.close();
  }
}

/** Bytes of a tensor of this dtype and shape. */
export function bytesOf(dtype: DType, shape: readonly number[]): number {
  return elementCount(shape) * DTYPE_BYTES[dtype];
}
