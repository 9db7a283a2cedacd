import { type AttentionPlan, type Completion, type ContinuedSums, type Operand, SlotPlan } from "@lockstep/kernels";
import { type Allocator, Tensor } from "@lockstep/tensor";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import { ChunkRows, type RankRows } from "./chunk-rows.ts";
import { type ContextAttention, scoreArgs, sinkArgs, variantOf } from "./context-attention.ts";
import { type ChunkLimits, type PlannedChunk, plannedChunks } from "./planned-chunks.ts";
import type { PrefillPlan } from "./prefill-plan.ts";
import { PrefillWorkspace } from "./prefill-workspace.ts";

/** One shard's rows of a chunk, checked once for all layers: where they are put, and what tokens see of them. */
interface PlacedShard {
  readonly slotPlan: SlotPlan;
  readonly plan: AttentionPlan;
}

/** A chunk, and each shard's part in it. */
interface PlacedChunk extends PlannedChunk {
  /** This rank's tokens [from, to) belong to the chunk's sequences. */
  readonly from: number;
  readonly to: number;
  readonly shards: readonly PlacedShard[];
}

/** A rank's attention over its shard: the sums so far, on the device, and what they become in the end. */
interface ShardState {
  readonly sums: Operand;
  readonly out: Tensor;
  readonly lse: Tensor;
}

/** What is planned for the layers of a window. */
interface PlannedStep {
  readonly chunks: readonly PlacedChunk[];
  /** All of this rank's tokens, of which none sees a key: for sums that begin, and for sums that end. */
  readonly nothing: AttentionPlan;
}

/**
 * Puts each rank's rows of a chunk into a workspace on the backend's device, one rank's after another's, and attends to
 * them there. For every query row and every rank the sums go on from chunk to chunk, and end in what that rank itself
 * would have found over its shard; these are then merged in rank order. So the bits are those of decoding, whatever the
 * size of the chunks.
 *
 * For backends of a device of their own whose sums can go on.
 */
export class ContinuedOnDevice implements ContextAttention {
  readonly #options: ResolvedOptions;
  readonly #chunk: ChunkLimits;
  readonly #rows: ChunkRows;
  readonly #workspace: PrefillWorkspace;
  /** This rank's queries on the device [maxQueries, ownHeads, headDim]. */
  readonly #query: Operand;
  /** Of every rank [maxQueries, ownHeads, ...]. */
  readonly #shards: ShardState[] = [];
  /** The step under way, by the window that it was planned for. */
  readonly #steps = new Map<number | undefined, PlannedStep>();

  /**
   * Allocates from `scratch`, which the caller closes, and on the backend.
   * @throws HeapExhausted, DeviceError: nothing stays allocated on the backend then
   */
  constructor(options: ResolvedOptions, caches: KvCaches, chunk: ChunkLimits, width: number, scratch: Allocator) {
    const { backend, exchange, model, groups, steps } = options;
    this.#options = options;
    this.#chunk = chunk;
    const rows = [steps.maxQueries, groups.ownHeads.count];
    this.#rows = new ChunkRows(options, caches, chunk.blocks, scratch);
    const heap = groups.dcp.ranks.map(() => {
      const out = Tensor.empty(scratch, "f32", [...rows, model.valueDim]);
      return { out, lse: Tensor.empty(scratch, "f32", rows) };
    });
    this.#workspace = new PrefillWorkspace(options, caches, chunk.blocks);
    try {
      this.#query = backend.empty(exchange.queryDtype, [...rows, model.headDim]);
    } catch (error) {
      this.#workspace.close();
      throw error;
    }
    try {
      for (const results of heap) this.#shards.push({ sums: backend.empty("f32", [...rows, width]), ...results });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Bytes of `scratch` that it takes. */
  static bytes(options: ResolvedOptions, blocks: number): number {
    const { groups, model, steps } = options;
    const state = 4 * steps.maxQueries * groups.ownHeads.count * (model.valueDim + 1) + 256;
    return ChunkRows.bytes(options, blocks) + groups.shard.count * state + 256;
  }

  async attend(layer: number, plan: PrefillPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Promise<void> {
    const { backend, mergeBackend } = this.#options;
    const step = this.#stepFor(plan, variantOf(this.#options, layer).window);
    const rows = plan.rows.length;
    await backend.upload(query, this.#query.slice(0, 0, rows));
    await this.#attendToNothing(layer, step, rows, { isFirst: true, isLast: false });
    for (const chunk of step.chunks) {
      await this.#rows.read(layer, chunk, (ranks) => this.#attendToChunk(layer, chunk, ranks));
    }
    // Also for no rows: where ranks share a GPU, each takes part in every op that has results.
    await this.#attendToNothing(layer, step, rows, { isFirst: false, isLast: true });
    if (rows === 0) return;
    const [outs, lses] = [
      this.#shards.map((shard) => shard.out.slice(0, 0, rows)),
      this.#shards.map((shard) => shard.lse.slice(0, 0, rows)),
    ];
    const result = { out, ...(lse === undefined ? {} : { lse }) };
    await mergeBackend.mergeAttnStates({ outs, lses, nonFinite: "propagate", ...result });
  }

  end(): void {
    for (const { chunks, nothing } of this.#steps.values()) free(chunks, nothing);
    this.#steps.clear();
  }

  close(): void {
    this.end();
    this.#workspace.close();
    this.#query.free();
    for (const { sums } of this.#shards.splice(0)) sums.free();
  }

  /** Begins or ends the sums of all rows over every shard. */
  #attendToNothing(layer: number, { nothing }: PlannedStep, rows: number, where: Ends): Completion {
    return this.#options.backend.batch(() => {
      for (let shard = 0; shard < this.#shards.length; shard++) this.#goOn(layer, shard, nothing, 0, rows, where);
    });
  }

  #attendToChunk(layer: number, chunk: PlacedChunk, ranks: readonly RankRows[]): Completion[] {
    const { from, to } = chunk;
    return chunk.shards.flatMap(({ slotPlan, plan }, shard) => {
      const rows = ranks[shard];
      if (rows === undefined || chunk.shardRows[shard] === 0 || from === to) return [];
      const placed = this.#workspace.place([rows], [slotPlan]);
      return [...placed, this.#goOn(layer, shard, plan, from, to, { isFirst: false, isLast: false })];
    });
  }

  /** Goes on with the sums of rows [from, to) over a shard, by what a plan says that they see of the workspace. */
  #goOn(layer: number, shard: number, plan: AttentionPlan, from: number, to: number, where: Ends): Completion {
    const state = this.#shards[shard];
    if (state === undefined) throw new RangeError(`there is no shard ${shard}`);
    const variant = variantOf(this.#options, layer);
    return this.#options.backend.partialAttention({
      query: this.#query.slice(0, from, to),
      ...this.#workspace.operands(layer),
      plan,
      ...scoreArgs(this.#options, variant),
      // Sinks join once: where the first tokens are.
      ...(shard === 0 ? sinkArgs(this.#options, variant) : {}),
      sums: { state: state.sums.slice(0, from, to), ...where },
      out: state.out.slice(0, from, to),
      lse: state.lse.slice(0, from, to),
    });
  }

  /** The chunks that layers of a window go through, planned once for all of them. @throws HeapExhausted */
  #stepFor(plan: PrefillPlan, window: number | undefined): PlannedStep {
    const known = this.#steps.get(window);
    if (known !== undefined) return known;
    const chunks: PlacedChunk[] = [];
    try {
      for (const chunk of plannedChunks(plan, this.#options, this.#chunk, window)) {
        chunks.push(this.#place(plan, chunk, window));
      }
      const step = { chunks, nothing: this.#planShard(plan, [], 0, 0, plan.rows.length, window) };
      this.#steps.set(window, step);
      return step;
    } catch (error) {
      free(chunks);
      throw error;
    }
  }

  #place(plan: PrefillPlan, chunk: PlannedChunk, window: number | undefined): PlacedChunk {
    const { segments } = chunk;
    const [from, to] = [segments[0]?.from ?? 0, segments.at(-1)?.to ?? 0];
    const shards: PlacedShard[] = [];
    try {
      for (let shard = 0; shard < chunk.shardRows.length; shard++) {
        const held = this.#heldSegments(chunk, shard);
        const { blockSize } = this.#options.cache;
        const slots = held.flatMap(({ firstBlock, count }) =>
          Array.from({ length: count }, (_, row) => firstBlock * blockSize + row),
        );
        const slotPlan = new SlotPlan(slots, { numBlocks: this.#chunk.blocks, blockSize });
        shards.push({ slotPlan, plan: this.#planShard(plan, held, shard, from, to, window) });
      }
    } catch (error) {
      for (const placed of shards) placed.plan.free();
      throw error;
    }
    return { ...chunk, from, to, shards };
  }

  /** What a shard holds of each segment of a chunk, each from a block of the workspace on. */
  #heldSegments({ segments }: PlannedChunk, shard: number): HeldSegment[] {
    let used = 0;
    return segments.map(({ item, shards }) => {
      const { first = 0, count = 0 } = shards[shard] ?? {};
      const firstBlock = used;
      used += Math.ceil(count / this.#options.cache.blockSize);
      return { item, first, count, firstBlock };
    });
  }

  /** Plans what this rank's tokens [from, to) see of what a shard holds of some sequences; of others they see nothing. */
  #planShard(
    plan: PrefillPlan,
    held: readonly HeldSegment[],
    shard: number,
    from: number,
    to: number,
    window: number | undefined,
  ): AttentionPlan {
    const { backend, cache, groups, heap } = this.#options;
    const { blockSize } = cache;
    const rowOfItem = new Map(held.map(({ item }, row) => [item, row]));
    const blocksOf = (count: number): number => Math.ceil(count / blockSize);
    const widest = held.reduce((most, { count }) => Math.max(most, blocksOf(count)), 1);
    // The last row is of sequences of which nothing is held.
    const blockTable = Tensor.zeros(heap, "i32", [held.length + 1, widest]);
    try {
      for (const [row, { count, firstBlock }] of held.entries()) {
        for (let block = 0; block < blocksOf(count); block++) blockTable.i32[row * widest + block] = firstBlock + block;
      }
      const step = {
        blockTable,
        sequences: plan.sequences.slice(from, to).map((item) => rowOfItem.get(item) ?? held.length),
        positions: plan.positions.slice(from, to),
        shard: { ...groups.shard, index: shard },
        segments: [...held.map(({ first, count }) => ({ first, count })), { first: 0, count: 0 }],
      };
      const size = { numBlocks: this.#chunk.blocks, blockSize };
      return backend.planAttention(window === undefined ? step : { ...step, window }, size);
    } finally {
      blockTable.free();
    }
  }
}

type Ends = Pick<ContinuedSums, "isFirst" | "isLast">;

/** Local indexes [first, first + count) of an item's sequence, and the block of the workspace at which they begin. */
interface HeldSegment {
  readonly item: number;
  readonly first: number;
  readonly count: number;
  readonly firstBlock: number;
}

function free(chunks: readonly PlacedChunk[], nothing?: AttentionPlan): void {
  for (const { shards } of chunks) for (const { plan } of shards) plan.free();
  nothing?.free();
}
