import type { AttentionStep, ContinuedSums } from "@lockstep/kernels";
import { type Allocator, Tensor } from "@lockstep/tensor";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import { ChunkRows, type RankRows } from "./chunk-rows.ts";
import { type ContextAttention, scoreArgs, sinkArgs, variantOf } from "./context-attention.ts";
import { type ChunkLimits, type PlannedChunk, type PlannedSegment, plannedChunks } from "./planned-chunks.ts";
import type { PrefillPlan } from "./prefill-plan.ts";
import { rowsAsCache } from "./rows-as-cache.ts";

/** A rank's attention over its shard, as far as chunks have come: the sums, and what they become in the end. */
interface ShardState {
  readonly state: Tensor;
  readonly out: Tensor;
  readonly lse: Tensor;
}

/**
 * Attends to each rank's rows of a chunk where that rank left them. For every query row and every rank the sums go on
 * from chunk to chunk, and end in what that rank itself would have found over its shard; these are then merged in rank
 * order. So the bits are those of decoding, whatever the size of the chunks.
 *
 * For backends whose sums can go on, and whose ops have completed when they return.
 */
export class ContinuedContext implements ContextAttention {
  readonly #options: ResolvedOptions;
  readonly #caches: KvCaches;
  readonly #chunk: ChunkLimits;
  readonly #rows: ChunkRows;
  /** Of every rank [maxQueries, ownHeads, ...]. */
  readonly #shards: readonly ShardState[];
  /** A table of one block, the first. */
  readonly #firstBlock: Tensor;
  /** Chunks of the step under way, by the window they were cut for. */
  readonly #chunks = new Map<number | undefined, readonly PlannedChunk[]>();

  /** Allocates from `scratch`, which the caller closes. */
  constructor(options: ResolvedOptions, caches: KvCaches, chunk: ChunkLimits, width: number, scratch: Allocator) {
    const { groups, model, steps } = options;
    this.#options = options;
    this.#caches = caches;
    this.#chunk = chunk;
    this.#rows = new ChunkRows(options, caches, chunk.blocks, scratch);
    this.#firstBlock = Tensor.zeros(scratch, "i32", [1, 1]);
    this.#shards = Array.from({ length: groups.shard.count }, () => {
      const state = Tensor.empty(scratch, "f32", [steps.maxQueries, groups.ownHeads.count, width]);
      return { state, out: state.slice(2, 0, model.valueDim), lse: state.select(2, model.valueDim) };
    });
  }

  /** Bytes of `scratch` that it takes. */
  static bytes(options: ResolvedOptions, blocks: number, width: number): number {
    const { groups, steps } = options;
    const state = 4 * steps.maxQueries * groups.ownHeads.count * width + 128;
    return ChunkRows.bytes(options, blocks) + groups.shard.count * state + 256;
  }

  async attend(layer: number, plan: PrefillPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Promise<void> {
    for (const chunk of this.#chunksFor(plan, variantOf(this.#options, layer).window)) {
      await this.#rows.read(layer, chunk, (ranks) => {
        for (const segment of chunk.segments) this.#attendSegment(layer, plan, segment, query, ranks);
        return [];
      });
    }
    const rows = plan.rows.length;
    if (rows === 0) return;
    const outs = this.#shards.map((shard) => shard.out.slice(0, 0, rows));
    const lses = this.#shards.map((shard) => shard.lse.slice(0, 0, rows));
    const result = { out, ...(lse === undefined ? {} : { lse }) };
    await this.#options.mergeBackend.mergeAttnStates({ outs, lses, nonFinite: "propagate", ...result });
  }

  end(): void {
    this.#chunks.clear();
  }

  close(): void {
    this.end();
  }

  #attendSegment(
    layer: number,
    plan: PrefillPlan,
    segment: PlannedSegment,
    query: Tensor,
    ranks: readonly RankRows[],
  ): void {
    const { from, to, isFirst, isLast } = segment;
    if (from === to) return;
    const { backend, groups } = this.#options;
    const variant = variantOf(this.#options, layer);
    const tokens = {
      query: query.slice(0, from, to),
      sequences: new Int32Array(to - from),
      positions: plan.positions.subarray(from, to),
      blockTable: this.#firstBlock,
      ...(variant.window === undefined ? {} : { window: variant.window }),
      ...scoreArgs(this.#options, variant),
    };
    for (const [index, { first, count, at }] of segment.shards.entries()) {
      const { state, out, lse } = this.#shards[index] ?? {};
      const rows = ranks[index];
      if (state === undefined || out === undefined || lse === undefined || rows === undefined) continue;
      if (count === 0 && !isFirst && !isLast) continue;
      const cut = (tensor: Tensor): Tensor => tensor.slice(0, from, to);
      const sums: ContinuedSums = { state: cut(state), isFirst, isLast };
      const seen: Pick<AttentionStep, "shard" | "segments"> = {
        shard: { ...groups.shard, index },
        segments: [{ first, count }],
      };
      const [held, start, end] = count === 0 ? [this.#rows.spare, 0, 1] : [rows, at, at + count];
      // Planned anew on every layer, which costs more of the op the fewer tokens a step has: plans that are kept would
      // take 12 bytes for every token of the step, rank and chunk of a long context.
      void backend.partialAttention({
        ...tokens,
        ...seen,
        ...rowsAsCache(this.#options.model, this.#caches, layer, held, start, end),
        // Sinks join once: where the first tokens are.
        ...(index === 0 ? sinkArgs(this.#options, variant) : {}),
        sums,
        out: cut(out),
        lse: cut(lse),
      });
    }
  }

  #chunksFor(plan: PrefillPlan, window: number | undefined): readonly PlannedChunk[] {
    const known = this.#chunks.get(window);
    if (known !== undefined) return known;
    const chunks = plannedChunks(plan, this.#options, this.#chunk, window);
    this.#chunks.set(window, chunks);
    return chunks;
  }
}
