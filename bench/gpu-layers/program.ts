// The rank's side of the bench of many layers: decode steps whose operands lie in the heap, and ones whose operands lie
// on the GPU.
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { type Operand, openBackend } from "@lockstep/kernels";
import { type DType, Tensor } from "@lockstep/tensor";
import { repeatableTensor } from "../repeatable-tensor.ts";

export interface LayersShape {
  readonly layers: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly dtype: DType;
  /** Tokens of the one sequence before the first step. */
  readonly context: number;
  readonly steps: number;
  readonly adapter: "hardware" | "software";
}

/** Median microseconds of a step, over operands of either memory, taken in turn. */
export interface LayersFigures {
  readonly device: string;
  readonly heap: number;
  readonly gpu: number;
}

const BLOCK_SIZE = 16;
const FILL_TOKENS = 1024;

/** Called by the world on its only rank. */
export async function setup({ heap, world, onClose }: RankContext, shape: LayersShape) {
  const { layers, queryHeads, kvHeads, headDim, dtype, context, steps, adapter } = shape;
  const backend = await openBackend("webgpu", { heap, adapter });
  onClose(() => backend.close());
  const warmUp = Math.ceil(steps / 2);
  const attention = DcpAttention.open({
    backend,
    heap,
    dcpGroup: world,
    layers,
    queryHeads,
    kvHeads,
    headDim,
    kvDtype: dtype,
    queryDtype: dtype,
    blockSize: BLOCK_SIZE,
    numBlocks: Math.ceil((context + 2 * (steps + warmUp)) / BLOCK_SIZE),
    maxStepQueries: 1,
  });
  onClose(() => attention.close());
  const sequence = attention.createSequence();
  const filling = repeatableTensor(heap, dtype, [FILL_TOKENS, kvHeads, headDim], 1);
  for (let done = 0; done < context; done += FILL_TOKENS) {
    const tokens = Math.min(FILL_TOKENS, context - done);
    const rows = filling.slice(0, 0, tokens);
    attention.beginStep([{ sequence, tokens, queries: 0 }]);
    for (let layer = 0; layer < layers; layer++) await attention.write(layer, rows, rows);
    attention.endStep();
  }
  const query = repeatableTensor(heap, dtype, [1, queryHeads, headDim], 2);
  const row = repeatableTensor(heap, dtype, [1, kvHeads, headDim], 3);
  const out = Tensor.empty(heap, "f32", [1, queryHeads, headDim]);
  const onGpu = (tensor: Tensor): Operand => {
    const operand = backend.empty(tensor.dtype, tensor.shape);
    onClose(() => operand.free());
    void backend.upload(tensor, operand);
    return operand;
  };
  const operands = {
    heap: { query, row, out },
    gpu: { query: onGpu(query), row: onGpu(row), out: onGpu(out) },
  } as const;

  /** A step that stores a token and attends on every layer, until its last output is in the heap. */
  async function step(memory: keyof typeof operands): Promise<number> {
    const { query: queries, row: rows, out: outs } = operands[memory];
    const started = performance.now();
    attention.beginStep([{ sequence, tokens: 1 }]);
    for (let layer = 0; layer < layers; layer++) await attention.forward(layer, queries, rows, rows, outs);
    attention.endStep();
    if (memory === "gpu") await backend.download(outs, out);
    return (performance.now() - started) * 1e3;
  }

  return {
    async measure(): Promise<LayersFigures> {
      const times: Record<keyof typeof operands, number[]> = { heap: [], gpu: [] };
      for (let round = 0; round < warmUp + steps; round++) {
        for (const memory of ["heap", "gpu"] as const) {
          const microseconds = await step(memory);
          if (round >= warmUp) times[memory].push(microseconds);
        }
      }
      return { device: backend.device, heap: median(times.heap), gpu: median(times.gpu) };
    },
    /** Throws unless a step over the GPU's operands gives the bits of the same step over the heap's. */
    async check(): Promise<void> {
      const results: Uint8Array[] = [];
      const length = attention.sequenceLength(sequence);
      for (const memory of ["heap", "gpu"] as const) {
        out.fill(Number.NaN);
        await step(memory);
        results.push(out.bytes.slice());
        attention.truncateSequence(sequence, length);
      }
      if (Buffer.compare(results[0] ?? new Uint8Array(), results[1] ?? new Uint8Array(1)) !== 0) {
        throw new Error("operands on the GPU give other bits than those in the heap");
      }
      if (!out.toNumbers().every(Number.isFinite)) throw new Error("the output is not finite");
    },
  };
}

function median(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
