// The rank's side of the overlap bench: decode steps of one layer, whole and by halves, over the same context.
import { type Combine, DcpAttention, type DcpAttentionMetrics } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";
import { repeatableTensor } from "./repeatable-tensor.ts";

/** Steps of one query token for each of `batch` sequences of `context` tokens. */
export interface OverlapRow {
  readonly batch: number;
  readonly context: number;
  readonly combine: Combine;
}

/** What a rank measured of a window of steps. */
export interface OverlapWindow {
  /** Median microseconds of a step. */
  readonly step: number;
  /** Of it, from when this rank has attended until it has its results. */
  readonly combine: number;
  /** This rank's outputs. */
  readonly bytes: Uint8Array;
}

export type Way = "off" | "on" | "auto";

const [QUERY_HEADS, KV_HEADS, HEAD_DIM, BLOCK_SIZE, FILL_ROWS] = [16, 4, 64, 16, 512];

/** Called by the world on every rank. */
export async function setup({ heap, world, onClose }: RankContext) {
  const backend = await openBackend("wasm", { heap });
  onClose(() => backend.close());
  const { start, end } = headRange(QUERY_HEADS, world.rank, world.size);
  const opened = new Map<Way, { readonly attention: DcpAttention; readonly items: { sequence: number }[] }>();
  let query: Tensor | undefined;
  let out: Tensor | undefined;

  /** Fills every way's caches alike. */
  async function prepare(ways: readonly Way[], { batch, context, combine }: OverlapRow): Promise<void> {
    close();
    const [key, value] = [1, 2].map((seed) => repeatableTensor(heap, "f32", [FILL_ROWS, KV_HEADS, HEAD_DIM], seed));
    if (key === undefined || value === undefined) throw new RangeError("no rows to fill with");
    for (const overlap of ways) {
      const attention = DcpAttention.open({
        backend,
        heap,
        dcpGroup: world,
        layers: 1,
        queryHeads: QUERY_HEADS,
        kvHeads: KV_HEADS,
        headDim: HEAD_DIM,
        kvDtype: "f16",
        combine,
        overlap,
        blockSize: BLOCK_SIZE,
        numBlocks: batch * (Math.ceil(context / (BLOCK_SIZE * world.size)) + 1),
      });
      const items = Array.from({ length: batch }, () => ({ sequence: attention.createSequence() }));
      opened.set(overlap, { attention, items });
      for (const { sequence } of items) {
        for (let done = 0; done < context; done += FILL_ROWS) {
          const tokens = Math.min(FILL_ROWS, context - done);
          attention.beginStep([{ sequence, tokens, queries: 0 }]);
          await attention.write(0, key.slice(0, 0, tokens), value.slice(0, 0, tokens));
          attention.endStep();
        }
      }
    }
    key.free();
    value.free();
    const all = repeatableTensor(heap, "f32", [batch, QUERY_HEADS, HEAD_DIM], 3);
    query = all.slice(1, start, end).clone(heap);
    out = Tensor.empty(heap, "f32", query.shape);
    all.free();
  }

  function close(): void {
    for (const { attention } of opened.values()) attention.close();
    opened.clear();
    query?.free();
    out?.free();
    [query, out] = [undefined, undefined];
  }

  return {
    prepare,
    /** Times `steps` steps of a way. */
    async window(way: Way, steps: number): Promise<OverlapWindow> {
      const found = opened.get(way);
      if (found === undefined || query === undefined || out === undefined)
        throw new RangeError(`${way} was not prepared`);
      const { attention } = found;
      const items = found.items.map((item) => ({ ...item, tokens: 0, queries: 1 }));
      const times: number[] = [];
      out.fill(Number.NaN);
      const before = attention.metrics.combineMs;
      for (let step = 0; step < steps; step++) {
        world.barrier();
        const started = performance.now();
        attention.beginStep(items);
        await attention.attend(0, query, out);
        attention.endStep();
        times.push(1000 * (performance.now() - started));
      }
      const combine = (1000 * (attention.metrics.combineMs - before)) / steps;
      const step = times.toSorted((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
      return { step, combine, bytes: out.bytes.slice() };
    },
    /** What `auto` measured and chose. */
    async choices(): Promise<DcpAttentionMetrics["overlapChoices"]> {
      return opened.get("auto")?.attention.metrics.overlapChoices ?? [];
    },
    close,
  };
}
