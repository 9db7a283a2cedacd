// The rank's side of the step bench: whole decode steps on a GPU of its own, on one that all ranks open, or on a shared
// one.
import { type Combine, DcpAttention } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { type KernelBackend, type Operand, openBackend } from "@lockstep/kernels";
import { openSharedBackend } from "@lockstep/shared-gpu";
import { Tensor } from "@lockstep/tensor";
import { type CrossedBytes, countBytes } from "../../libs/kernels/src/testing/count-bytes.ts";
import { openGpuDevice } from "../../libs/kernels/src/device/gpu-device.ts";
import { repeatableTensor } from "../repeatable-tensor.ts";
import { type OperandPlace, type Sharing, type StepShape, transferBytes } from "./step-shapes.ts";
import { transferSeconds } from "./transfer-floor.ts";

/** Whether steps are cut in halves, one of which attends while the other is exchanged. */
export type Overlap = "off" | "on";

export interface StepOptions {
  readonly sharing: Sharing;
  /** GPUs to spread the ranks over; undefined: one, which the system prefers. */
  readonly gpus: number | undefined;
  readonly adapter: "hardware" | "software";
  /** On the CPU instead, for comparison. */
  readonly wasm: boolean;
  /** Where queries lie. */
  readonly queries: OperandPlace;
  /**
   * Where results are wanted. On the GPU they are combined there as well, in the heap by WebAssembly where ranks have
   * devices of their own.
   */
  readonly results: OperandPlace;
  readonly overlap: Overlap;
  /** Rows have the same bits in any batch. */
  readonly batchInvariant: boolean;
}

/** A shape's figures on one rank. */
export interface StepFigures {
  /** Median microseconds of a step. */
  readonly microseconds: number;
  readonly gatherUs: number;
  readonly attentionUs: number;
  readonly combineUs: number;
  readonly combine: Combine;
  /** What crossed between host and GPU on this thread in a step, without uploads by mapped memory. */
  readonly crossed: CrossedBytes;
  /** Its heads' outputs. */
  readonly out: Float32Array;
}

const BLOCK_SIZE = 16;
const SAMPLES = 15;

/** Called by the world on every rank. */
export async function setup({ heap, world, rank, onClose }: RankContext, options: StepOptions) {
  const { sharing, gpus, adapter, queries: queryPlace, results, overlap, batchInvariant } = options;
  const device = gpus === undefined ? { adapter } : { adapter, index: rank % gpus };
  const merge = await openBackend("wasm", { heap });
  onClose(() => merge.close());
  let backend: KernelBackend = merge;

  /** The largest of all ranks' numbers: they must agree on how often they run. */
  async function slowest(microseconds: number): Promise<number> {
    const largest = Tensor.from(heap, "f32", [1], [microseconds]);
    await world.async.allReduce(largest, largest, { op: "max" });
    const value = largest.at(0);
    largest.free();
    return value;
  }

  return {
    /** Median microseconds of a shape's transfers alone, up and down, all ranks that open a device at once. */
    async floor(shapes: readonly StepShape[], rounds: number): Promise<number[]> {
      const gpu = sharing === "shared device" && rank > 0 ? undefined : await openGpuDevice(device);
      const medians: number[] = [];
      for (const shape of shapes) {
        const { up, down } = transferBytes(shape, { ranks: world.size, sharing, queries: queryPlace, results });
        const isNothing = gpu === undefined || up + down === 0;
        const seconds = isNothing ? 0 : await transferSeconds(gpu, heap, up, down, rounds);
        medians.push(seconds * 1e6);
        world.barrier();
      }
      await gpu?.release();
      return medians;
    },

    async open(): Promise<string> {
      if (!options.wasm) {
        backend =
          sharing === "shared device"
            ? await openSharedBackend({ heap, group: world, batchInvariant, ...device })
            : await openBackend("webgpu", { heap, batchInvariant, ...device });
        const opened = backend;
        onClose(() => opened.close());
      }
      return backend.device;
    },

    /** Measures for about `seconds`, after a warm-up as long: compilers of JavaScript need a thousand steps. */
    async steps(shape: StepShape, seconds: number): Promise<StepFigures> {
      const { batch, queryHeads, kvHeads, headDim, valueDim, dtype, partialDtype, length } = shape;
      const mla = kvHeads === 1 && valueDim < headDim;
      const attention = DcpAttention.open({
        backend,
        ...(results === "GPU" || sharing === "shared device" ? {} : { mergeBackend: merge }),
        heap,
        dcpGroup: world,
        overlap,
        layers: 1,
        queryHeads,
        kvHeads,
        headDim,
        valueDim,
        mla,
        kvDtype: dtype,
        queryDtype: dtype,
        // The CPU tells what is right: without rounding.
        ...(options.wasm ? {} : { partialDtype }),
        blockSize: BLOCK_SIZE,
        numBlocks: batch * (Math.ceil(length / (BLOCK_SIZE * world.size)) + 1),
        maxStepQueries: batch,
      });
      const { start, end } = headRange(queryHeads, rank, world.size);
      const key = repeatableTensor(heap, dtype, [length, kvHeads, headDim], 1);
      const value = mla ? undefined : repeatableTensor(heap, dtype, [length, kvHeads, valueDim], 2);
      const queries = repeatableTensor(heap, dtype, [batch, queryHeads, headDim], 3);
      const heapQuery = queries.slice(1, start, end).clone(heap);
      let query: Operand = heapQuery;
      if (queryPlace === "GPU" && !options.wasm) {
        query = backend.empty(dtype, heapQuery.shape);
        await backend.upload(heapQuery, query);
      }
      const heapOut = Tensor.empty(heap, "f32", [batch, end - start, valueDim]).fill(Number.NaN);
      const out: Operand = results === "GPU" ? backend.empty("f32", heapOut.shape) : heapOut;
      const sequences = Array.from({ length: batch }, () => attention.createSequence());
      for (const sequence of sequences) {
        attention.beginStep([{ sequence, tokens: length, queries: 0 }]);
        await attention.write(0, key, value);
        attention.endStep();
      }
      attention.beginStep(sequences.map((sequence) => ({ sequence, tokens: 0, queries: 1 })));
      const run = async (steps: number): Promise<number> => {
        world.barrier();
        const started = performance.now();
        for (let step = 0; step < steps; step++) await attention.attend(0, query, out);
        // The last one's results as well.
        if (out !== heapOut) await backend.download(out, heapOut);
        return ((performance.now() - started) / steps) * 1e3;
      };
      // Enough for `auto` to have tried every combine.
      await run(10);
      const affordable = (wanted: number, microseconds: number): number =>
        Math.max(1, Math.min(5000, Math.round((wanted * 1e6) / microseconds)));
      await run(affordable(seconds, await slowest(await run(20))));
      const estimate = await slowest(await run(2));
      const samples = Math.min(SAMPLES, affordable(seconds, estimate));
      const stepsPerSample = affordable(seconds / samples, estimate);
      const before = attention.metrics;
      const times: number[] = [];
      for (let sample = 0; sample < samples; sample++) times.push(await run(stepsPerSample));
      const after = attention.metrics;
      const part = (name: "gatherMs" | "attentionMs" | "combineMs"): number =>
        ((after[name] - before[name]) / (samples * stepsPerSample)) * 1e3;
      const crossed = await countBytes(() => attention.attend(0, query, out));
      const figures: StepFigures = {
        microseconds: times.toSorted((a, b) => a - b)[samples >> 1] ?? Number.NaN,
        gatherUs: part("gatherMs"),
        attentionUs: part("attentionMs"),
        combineUs: part("combineMs"),
        combine: after.combine,
        crossed,
        out: heapOut.f32.slice(),
      };
      attention.endStep();
      attention.close();
      if (out !== heapOut) out.free();
      if (query !== heapQuery) query.free();
      for (const tensor of [key, queries, heapQuery, heapOut]) tensor.free();
      value?.free();
      return figures;
    },
  };
}
