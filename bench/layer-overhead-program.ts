// The rank's side of the layer-overhead bench: steps of many layers, with the attention kernel and without it.
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";

/** A batch of equally long sequences. */
export interface LayerOverhead {
  readonly sequences: number;
  /** Tokens of each sequence, all on this rank. */
  readonly tokens: number;
  readonly layers: number;
}

const [HEADS, HEAD_DIM, BLOCK_SIZE] = [4, 4, 16];
/** Key of the attention kernel in a backend's context. */
const KERNEL = "partialAttention_f32";

/** Called by the world on every rank. */
export async function setup({ heap, world, onClose }: RankContext, { sequences, tokens, layers }: LayerOverhead) {
  const open = async (isMuted: boolean) => {
    const backend = await openBackend("wasm", { heap });
    onClose(() => backend.close());
    // What a context holds is not compiled: the ops do all but the kernel's work.
    if (isMuted) backend.context.get(KERNEL, () => () => undefined);
    const attention = DcpAttention.open({
      backend,
      heap,
      dcpGroup: world,
      layers: 1,
      queryHeads: HEADS,
      kvHeads: 1,
      headDim: HEAD_DIM,
      kvDtype: "f32",
      blockSize: BLOCK_SIZE,
      numBlocks: sequences * Math.ceil((tokens + 1024) / BLOCK_SIZE),
    });
    onClose(() => attention.close());
    const items = Array.from({ length: sequences }, () => ({ sequence: attention.createSequence(), tokens: 1 }));
    const rows = Tensor.empty(heap, "f32", [tokens, 1, HEAD_DIM]).fill(0.5);
    for (const { sequence } of items) {
      attention.beginStep([{ sequence, tokens, queries: 0 }]);
      await attention.write(0, rows, rows);
      attention.endStep();
    }
    rows.free();
    return { attention, items, context: backend.context };
  };
  const muted = await open(true);
  const whole = await open(false);
  const { context } = whole;
  const query = Tensor.empty(heap, "f32", [sequences, HEADS, HEAD_DIM]).fill(0.25);
  const row = Tensor.empty(heap, "f32", [sequences, 1, HEAD_DIM]).fill(0.5);
  const out = Tensor.empty(heap, "f32", query.shape);

  return {
    /**
     * Median microseconds of a layer, and of the begin and end of a step, of `steps` steps whose kernel does nothing.
     */
    async overhead(steps: number): Promise<{ layer: number; step: number }> {
      const { attention, items } = muted;
      const times: { layer: number[]; step: number[] } = { layer: [], step: [] };
      for (let step = 0; step < steps; step++) {
        const started = performance.now();
        attention.beginStep(items);
        const begun = performance.now();
        // Every layer writes and attends alike: one cache serves for all.
        for (let layer = 0; layer < layers; layer++) await attention.forward(0, query, row, row, out);
        const ended = performance.now();
        attention.endStep();
        times.layer.push((1000 * (ended - begun)) / layers);
        times.step.push(1000 * (performance.now() - ended + begun - started));
      }
      return { layer: median(times.layer), step: median(times.step) };
    },
    /** The output of a step with its kernel: every value is 0.5, and so is their mean. */
    async check(): Promise<void> {
      const { attention, items } = whole;
      out.fill(Number.NaN);
      attention.beginStep(items);
      await attention.forward(0, query, row, row, out);
      attention.endStep();
      const wrong = out.toNumbers().findIndex((number) => !(Math.abs(number - 0.5) < 1e-6));
      if (wrong !== -1) throw new Error(`element ${wrong} is not the mean of equal values`);
      // Else the other backend ran its kernel after all.
      if (!context.entries.includes(KERNEL)) throw new Error(`no kernel is kept as ${KERNEL}`);
    },
  };
}

function median(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
