import { type AttentionPlan, globalPosition, SlotPlan } from "@lockstep/kernels";
import { type Allocator, Tensor } from "@lockstep/tensor";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import { ChunkRows } from "./chunk-rows.ts";
import { type ContextAttention, scoreArgs, sinkArgs, variantOf } from "./context-attention.ts";
import { type ChunkLimits, type PlannedChunk, plannedChunks } from "./planned-chunks.ts";
import type { PrefillPlan } from "./prefill-plan.ts";
import { PrefillWorkspace } from "./prefill-workspace.ts";

/** A chunk, checked once for all layers: what this rank's tokens see of it, and where the rows of each shard go. */
interface PlacedChunk extends PlannedChunk {
  /** This rank's tokens [from, to) belong to the chunk's sequences. */
  readonly from: number;
  readonly to: number;
  readonly plan: AttentionPlan;
  readonly slotPlans: readonly SlotPlan[];
}

interface State {
  readonly out: Tensor;
  readonly lse: Tensor;
}

/**
 * Puts all ranks' rows of a chunk into a workspace, in the order of their positions, and merges the attention to each
 * chunk with what came before by LSE. So few and large ops as there are chunks: for backends of a device of their own.
 * The bits depend on the size of the chunks.
 */
export class MergedContext implements ContextAttention {
  readonly #options: ResolvedOptions;
  readonly #chunk: ChunkLimits;
  readonly #rows: ChunkRows;
  readonly #workspace: PrefillWorkspace;
  readonly #partial: State;
  readonly #merged: State;
  readonly #sum: State;
  /** Chunks of the step under way, by the window they were cut for. */
  readonly #chunks = new Map<number | undefined, readonly PlacedChunk[]>();

  /**
   * Allocates from `scratch`, which the caller closes, and blocks on the backend.
   * @throws HeapExhausted, DeviceError: nothing stays allocated on the backend then
   */
  constructor(options: ResolvedOptions, caches: KvCaches, chunk: ChunkLimits, scratch: Allocator) {
    const { model, groups, steps } = options;
    this.#options = options;
    this.#chunk = chunk;
    const rows = [steps.maxQueries, groups.ownHeads.count];
    const state = (): State => ({
      out: Tensor.empty(scratch, "f32", [...rows, model.valueDim]),
      lse: Tensor.empty(scratch, "f32", rows),
    });
    this.#partial = state();
    this.#merged = state();
    this.#sum = state();
    this.#rows = new ChunkRows(options, caches, chunk.blocks, scratch);
    this.#workspace = new PrefillWorkspace(options, caches, chunk.blocks);
  }

  /** Bytes of `scratch` that it takes. */
  static bytes(options: ResolvedOptions, blocks: number): number {
    const { groups, model, steps } = options;
    const states = 3 * steps.maxQueries * groups.ownHeads.count * (model.valueDim + 1) * 4;
    return ChunkRows.bytes(options, blocks) + states + 1024;
  }

  async attend(layer: number, plan: PrefillPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Promise<void> {
    const { backend, mergeBackend } = this.#options;
    const variant = variantOf(this.#options, layer);
    const { sinks } = sinkArgs(this.#options, variant);
    const rows = plan.rows.length;
    const sum = cut(this.#sum, 0, rows);
    sum.out.fill(0);
    sum.lse.fill(Number.NEGATIVE_INFINITY);
    // A sink is a state of its own, whose output is 0.
    if (sinks !== undefined) for (let row = 0; row < rows; row++) sum.lse.select(0, row).copyFrom(sinks);
    for (const chunk of this.#chunksFor(plan, variant.window)) {
      await this.#rows.read(layer, chunk, (ranks) => this.#workspace.place(ranks, chunk.slotPlans));
      const { from, to } = chunk;
      const [before, now, after] = [this.#sum, this.#partial, this.#merged].map((state) => cut(state, from, to)) as [
        State,
        State,
        State,
      ];
      // Also for no rows: where ranks share a GPU, each takes part in every op.
      await backend.partialAttention({
        query: query.slice(0, from, to),
        ...this.#workspace.operands(layer),
        plan: chunk.plan,
        ...scoreArgs(this.#options, variant),
        ...now,
      });
      if (from === to) continue;
      const [outs, lses] = [
        [before.out, now.out],
        [before.lse, now.lse],
      ];
      await mergeBackend.mergeAttnStates({ outs, lses, nonFinite: "propagate", ...after });
      before.out.copyFrom(after.out);
      before.lse.copyFrom(after.lse);
    }
    out.copyFrom(sum.out);
    lse?.copyFrom(sum.lse);
  }

  end(): void {
    for (const chunks of this.#chunks.values()) for (const { plan } of chunks) plan.free();
    this.#chunks.clear();
  }

  close(): void {
    this.end();
    this.#workspace.close();
  }

  /** The chunks that layers of a window go through, planned once for all of them. @throws HeapExhausted */
  #chunksFor(plan: PrefillPlan, window: number | undefined): readonly PlacedChunk[] {
    const known = this.#chunks.get(window);
    if (known !== undefined) return known;
    const placed: PlacedChunk[] = [];
    try {
      for (const chunk of plannedChunks(plan, this.#options, this.#chunk, window)) {
        placed.push(this.#place(plan, chunk, window));
      }
    } catch (error) {
      for (const chunk of placed) chunk.plan.free();
      throw error;
    }
    this.#chunks.set(window, placed);
    return placed;
  }

  #place(plan: PrefillPlan, chunk: PlannedChunk, window: number | undefined): PlacedChunk {
    const { backend, cache, groups, heap } = this.#options;
    const { segments, shardRows } = chunk;
    const { blockSize } = cache;
    const size = { numBlocks: this.#chunk.blocks, blockSize };
    const slotPlans = shardRows.map((_, index) => {
      const slots = segments.flatMap(({ first, firstBlock, shards }) => {
        const { first: local = 0, count = 0 } = shards[index] ?? {};
        const shard = { ...groups.shard, index };
        return Array.from(
          { length: count },
          (_element, row) => firstBlock * blockSize + globalPosition(shard, local + row) - first,
        );
      });
      return new SlotPlan(slots, size);
    });
    const [from, to] = [segments[0]?.from ?? 0, segments.at(-1)?.to ?? 0];
    const rowOfItem = new Map(segments.map(({ item }, row) => [item, row]));
    // An item between the chunk's that has no segment has no context: its tokens would see nothing.
    const sequences = plan.sequences.slice(from, to).map((item) => rowOfItem.get(item) ?? 0);
    const widest = segments.reduce((most, { count }) => Math.max(most, Math.ceil(count / blockSize)), 1);
    const blockTable = Tensor.zeros(heap, "i32", [segments.length, widest]);
    try {
      for (const [row, { count, firstBlock }] of segments.entries()) {
        for (let block = 0; block < Math.ceil(count / blockSize); block++) {
          blockTable.i32[row * widest + block] = firstBlock + block;
        }
      }
      const step = { blockTable, sequences, positions: plan.positions.slice(from, to), segments };
      const seen = window === undefined ? step : { ...step, window };
      return { ...chunk, from, to, slotPlans, plan: backend.planAttention(seen, size) };
    } finally {
      blockTable.free();
    }
  }
}

function cut({ out, lse }: State, from: number, to: number): State {
  return { out: out.slice(0, from, to), lse: lse.slice(0, from, to) };
}
