// The rank's side of the long-context bench: a sharded KV cache filled with repeatable numbers, and timed decode steps
// over it.
import { DcpAttention } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { type DType, Tensor } from "@lockstep/tensor";
import { repeatableTensor } from "./repeatable-tensor.ts";

/** What is decoded. */
export interface LongContext {
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly kvDtype: DType;
  /** Tokens of each sequence before the timed steps. */
  readonly lengths: readonly number[];
}

const FILL_ROWS = 512;

/** Called by the world on every rank. */
export async function setup({ heap, world, onClose }: RankContext, context: LongContext) {
  const { queryHeads, kvHeads, headDim, kvDtype, lengths } = context;
  const backend = await openBackend("wasm", { heap });
  onClose(() => backend.close());
  const blockSize = 16;
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const attention = DcpAttention.open({
    backend,
    heap,
    dcpGroup: world,
    layers: 1,
    queryHeads,
    kvHeads,
    headDim,
    kvDtype,
    blockSize,
    numBlocks: Math.ceil(total / (blockSize * world.size)) + 64 * lengths.length,
  });
  onClose(() => attention.close());
  const sequences = lengths.map(() => attention.createSequence());

  let seed = 7;
  const random = (tokens: number, heads: number): Tensor =>
    repeatableTensor(heap, "f32", [tokens, heads, headDim], seed++);
  const key = random(FILL_ROWS, kvHeads);
  const value = random(FILL_ROWS, kvHeads);
  for (const [index, length] of lengths.entries()) {
    for (let done = 0; done < length; done += FILL_ROWS) {
      const tokens = Math.min(FILL_ROWS, length - done);
      attention.beginStep([{ sequence: sequences[index] ?? -1, tokens, queries: 0 }]);
      await attention.write(0, key.slice(0, 0, tokens), value.slice(0, 0, tokens));
      attention.endStep();
    }
  }
  const { start, end } = headRange(queryHeads, world.rank, world.size);
  const queries = random(lengths.length, queryHeads).slice(1, start, end).clone(heap);
  const out = Tensor.empty(heap, "f32", [lengths.length, end - start, headDim]);
  const newKey = random(1, kvHeads);
  const newValue = random(1, kvHeads);

  return {
    /**
     * Median milliseconds of `steps` steps that append a token to the first sequence and attend, and of their part that
     * needs no peer; the last output.
     */
    async decode(steps: number): Promise<{ milliseconds: number; computing: number; out: number[]; combine: string }> {
      const [query, target] = [queries.slice(0, 0, 1), out.slice(0, 0, 1)];
      const times: number[] = [];
      const computing: number[] = [];
      for (let step = 0; step < steps; step++) {
        const before = attention.metrics.attentionMs;
        world.barrier();
        const started = performance.now();
        attention.beginStep([{ sequence: sequences[0] ?? -1, tokens: 1 }]);
        await attention.forward(0, query, newKey, newValue, target);
        attention.endStep();
        times.push(performance.now() - started);
        computing.push(attention.metrics.attentionMs - before);
      }
      return {
        milliseconds: median(times),
        computing: median(computing),
        out: [...target.toNumbers()],
        combine: attention.metrics.combine,
      };
    },

    /**
     * Median milliseconds of a step of all sequences and of one of the last alone, taken in turn; the last one's
     * outputs.
     */
    async raggedAndAlone(rounds: number): Promise<{ ragged: number; alone: number; outs: [number[], number[]] }> {
      const last = sequences.length - 1;
      const all = sequences.map((sequence) => ({ sequence, tokens: 0, queries: 1 }));
      const one = all.slice(last);
      const timed = async (items: typeof all, from: number): Promise<number> => {
        world.barrier();
        const started = performance.now();
        attention.beginStep(items);
        await attention.attend(0, queries.slice(0, from, last + 1), out.slice(0, from, last + 1));
        attention.endStep();
        return performance.now() - started;
      };
      const times: { ragged: number[]; alone: number[] } = { ragged: [], alone: [] };
      const outs: [number[], number[]] = [[], []];
      for (let round = 0; round < rounds; round++) {
        times.ragged.push(await timed(all, 0));
        outs[0] = [...out.select(0, last).toNumbers()];
        out.fill(Number.NaN);
        times.alone.push(await timed(one, last));
        outs[1] = [...out.select(0, last).toNumbers()];
      }
      return { ragged: median(times.ragged), alone: median(times.alone), outs };
    },
  };
}

function median(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
