// The rank's side of the decode steps of bench:mpi: query gather, attention over a sharded KV cache, combine.
import { DcpAttention } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";
import { repeatableTensor } from "../repeatable-tensor.ts";

/** One layer. */
export interface StepShape {
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** What a rank measured. */
export interface StepTimes {
  /** Median microseconds of a step, and of its part that needs no peer. */
  readonly step: number;
  readonly attention: number;
  /** Of all bits of this rank's outputs. */
  readonly checksum: number;
}

const [BLOCK_SIZE, FILL_ROWS] = [16, 512];

/** Called by the world on every rank. */
export async function setup({ heap, world, onClose }: RankContext, shape: StepShape) {
  const { queryHeads, kvHeads, headDim } = shape;
  const backend = await openBackend("wasm", { heap });
  onClose(() => backend.close());
  const { start, end } = headRange(queryHeads, world.rank, world.size);
  let opened: { readonly close: () => void; readonly step: () => Promise<number> } | undefined;

  /** Fills `batch` sequences of `context` tokens each. */
  async function fill(batch: number, context: number): Promise<NonNullable<typeof opened>> {
    const attention = DcpAttention.open({
      backend,
      heap,
      dcpGroup: world,
      layers: 1,
      queryHeads,
      kvHeads,
      headDim,
      kvDtype: "f16",
      combine: "a2a",
      blockSize: BLOCK_SIZE,
      numBlocks: batch * (Math.ceil(context / (BLOCK_SIZE * world.size)) + 1),
    });
    const sequences = Array.from({ length: batch }, () => attention.createSequence());
    const rows = [1, 2].map((seed) => repeatableTensor(heap, "f32", [FILL_ROWS, kvHeads, headDim], seed));
    const [key, value] = rows;
    if (key === undefined || value === undefined) throw new Error("no rows to fill with");
    for (const sequence of sequences) {
      for (let done = 0; done < context; done += FILL_ROWS) {
        const tokens = Math.min(FILL_ROWS, context - done);
        attention.beginStep([{ sequence, tokens, queries: 0 }]);
        await attention.write(0, key.slice(0, 0, tokens), value.slice(0, 0, tokens));
        attention.endStep();
      }
    }
    const all = repeatableTensor(heap, "f32", [batch, queryHeads, headDim], 3);
    const query = all.slice(1, start, end).clone(heap);
    const out = Tensor.empty(heap, "f32", query.shape);
    const items = sequences.map((sequence) => ({ sequence, tokens: 0, queries: 1 }));
    return {
      /** Microseconds of the part that needs no peer. */
      step: async () => {
        const before = attention.metrics.attentionMs;
        attention.beginStep(items);
        await attention.attend(0, query, out);
        attention.endStep();
        checksum = checksumOf(out);
        return 1000 * (attention.metrics.attentionMs - before);
      },
      close: () => {
        attention.close();
        for (const tensor of [...rows, all, query, out]) tensor.free();
      },
    };
  }
  let checksum = 0;

  return {
    /** From now on steps are of `batch` sequences of `context` tokens. */
    async prepare(batch: number, context: number): Promise<void> {
      opened?.close();
      opened = await fill(batch, context);
    },
    /** Times `steps` steps. */
    async steps(steps: number): Promise<StepTimes> {
      const [whole, alone]: [number[], number[]] = [[], []];
      for (let step = 0; step < steps; step++) {
        world.barrier();
        const started = performance.now();
        alone.push((await opened?.step()) ?? Number.NaN);
        whole.push(1000 * (performance.now() - started));
      }
      return { step: median(whole), attention: median(alone), checksum };
    },
  };
}

/** FNV-1a over the words. */
function checksumOf(tensor: Tensor): number {
  let hash = 0x811c9dc5;
  for (const word of new Int32Array(tensor.f32.buffer, tensor.byteOffset, tensor.size)) {
    hash = Math.imul(hash ^ word, 0x01000193);
  }
  return hash >>> 0;
}

function median(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}
