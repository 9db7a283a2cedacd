import { SlotPlan } from "@lockstep/kernels";
import { Arena, Tensor } from "@lockstep/tensor";
import type { AttentionVariant } from "../options/attention-variant.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import type { KvCaches } from "../kv/kv-caches.ts";
import { type PlannedChunk, type PrefillPlan, prefillChunks } from "./prefill-plan.ts";
import { PrefillWorkspace } from "./prefill-workspace.ts";

/**
 * Prefill over a sharded KV cache: every rank attends for its own query heads and its own tokens over the whole context, which
 * comes to it chunk by chunk. A chunk's keys and values, wherever they are stored, are gathered into a workspace of bounded
 * size and put in the order of their positions; each chunk's attention is merged with what came before by LSE.
 *
 * With many query tokens this moves less than gathering queries and combining outputs: KV rows of a context, once for each
 * rank, instead of queries and f32 outputs of all heads for every token.
 */
export class Prefill {
  readonly #options: ResolvedOptions;
  readonly #caches: KvCaches;
  /** Which query heads of this rank's own share a KV head. */
  readonly #headGroup: { readonly size: number; readonly offset: number };
  readonly #workspaceBlocks: number;
  readonly #workspace: PrefillWorkspace;
  readonly #scratch: Arena;
  readonly #partial: { readonly out: Tensor; readonly lse: Tensor };
  readonly #merged: { readonly out: Tensor; readonly lse: Tensor };
  readonly #sum: { readonly out: Tensor; readonly lse: Tensor };
  /** Chunks of the step under way, by the window they were cut for. */
  readonly #chunks = new Map<number | undefined, readonly PlannedChunk[]>();

  /**
   * Allocates the workspace.
   * @param chunkTokens most tokens of a chunk, over all shards
   * @throws HeapExhausted, DeviceError: nothing stays allocated then
   */
  constructor(options: ResolvedOptions, caches: KvCaches, chunkTokens: number) {
    const { heap, model, cache, groups, steps } = options;
    const { valueDim, headGroup } = model;
    const { start, count: ownHeads } = groups.ownHeads;
    const rows = steps.maxQueries;
    this.#options = options;
    this.#caches = caches;
    this.#headGroup = { size: headGroup.size, offset: headGroup.offset + start };
    const blocks = Math.ceil(chunkTokens / cache.blockSize);
    this.#workspaceBlocks = blocks;
    const states = 3 * rows * ownHeads * (valueDim + 1) * 4;
    this.#scratch = new Arena(heap, PrefillWorkspace.scratchBytes(options, blocks) + states + 1024);
    try {
      const state = (): { out: Tensor; lse: Tensor } => ({
        out: Tensor.empty(this.#scratch, "f32", [rows, ownHeads, valueDim]),
        lse: Tensor.empty(this.#scratch, "f32", [rows, ownHeads]),
      });
      this.#partial = state();
      this.#merged = state();
      this.#sum = state();
      this.#workspace = new PrefillWorkspace(options, caches, blocks, this.#scratch);
    } catch (error) {
      this.#scratch.close();
      throw error;
    }
  }

  /** Stores this rank's shard of the step's keys and values, which the PCP ranks bring between them. */
  async write(layer: number, plan: PrefillPlan, key: Tensor, value: Tensor | undefined): Promise<void> {
    const { groups, exchange } = this.#options;
    const caches = this.#caches;
    caches.checkValue(value);
    if (groups.pcp === undefined) {
      caches.checkFinite(layer, key, value);
      return caches.write(layer, key, value, plan.step.slotPlan);
    }
    const own = value === undefined ? [key] : [key, value];
    const bytesRead =
      plan.step.tokens * (own.reduce((sum, rows) => sum + rows.byteLength, 0) / Math.max(1, key.dim(0)));
    // What one rank brings that cannot be stored, all see: all throw, and none writes.
    let refused: unknown;
    const writes = groups.pcp.readPeers(
      own,
      (peers) => {
        try {
          for (const [peerKey = key, peerValue] of peers) caches.checkFinite(layer, peerKey, peerValue);
        } catch (error) {
          refused = error;
          return [];
        }
        return peers.map(([peerKey = key, peerValue], rank) => {
          const slots = plan.slotPlans[rank];
          return slots === undefined ? undefined : caches.write(layer, peerKey, peerValue, slots);
        });
      },
      { deadlineMs: exchange.deadlineMs, bytesRead: Math.round(bytesRead) },
    );
    await Promise.all(writes);
    if (refused !== undefined) throw refused;
  }

  /**
   * Attention of this rank's tokens and heads over everything stored, the step's tokens included.
   * @param query [rows, ownHeads, headDim]
   * @param out where it goes [rows, ownHeads, valueDim], any float dtype; `lse` [rows, ownHeads], f32, natural
   */
  async attend(layer: number, plan: PrefillPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Promise<void> {
    const { mergeBackend, model, groups } = this.#options;
    const variant = model.variants[layer];
    if (variant === undefined) throw new RangeError(`there is no layer ${layer}`);
    const { start, end } = groups.ownHeads;
    const sinks = variant.sinks?.slice(0, start, end);
    const rows = plan.rows.length;
    const [sum, partial, merged] = [this.#sum, this.#partial, this.#merged].map((state) => cut(state, 0, rows)) as [
      State,
      State,
      State,
    ];
    sum.out.fill(0);
    sum.lse.fill(Number.NEGATIVE_INFINITY);
    // A sink is a state of its own, whose output is 0.
    if (sinks !== undefined) for (let row = 0; row < rows; row++) sum.lse.select(0, row).copyFrom(sinks);
    for (const chunk of this.#chunksFor(plan, variant.window)) {
      await this.#workspace.gather(layer, chunk);
      const { from, to } = chunk;
      const [before, now, after] = [sum, partial, merged].map((state) => cut(state, from, to)) as [State, State, State];
      await this.#attendChunk(layer, chunk, query.slice(0, from, to), variant, now);
      if (from === to) continue;
      const outs = [before.out, now.out];
      await mergeBackend.mergeAttnStates({
        outs,
        lses: [before.lse, now.lse],
        nonFinite: "propagate",
        out: after.out,
        lse: after.lse,
      });
      before.out.copyFrom(after.out);
      before.lse.copyFrom(after.lse);
    }
    out.copyFrom(sum.out);
    lse?.copyFrom(sum.lse);
  }

  /** To be called when a step ends. */
  endStep(): void {
    for (const chunks of this.#chunks.values()) for (const { plan } of chunks) plan.free();
    this.#chunks.clear();
  }

  close(): void {
    this.endStep();
    this.#workspace.close();
    this.#scratch.close();
  }

  /** The chunks that layers of a window go through, planned once for all of them. @throws HeapExhausted */
  #chunksFor(plan: PrefillPlan, window: number | undefined): readonly PlannedChunk[] {
    const known = this.#chunks.get(window);
    if (known !== undefined) return known;
    const { backend, cache, groups, heap } = this.#options;
    const { blockSize } = cache;
    const { shard } = groups;
    const size = { numBlocks: this.#workspaceBlocks, blockSize };
    const planned: PlannedChunk[] = [];
    const chunks = prefillChunks(plan, { shard, blockSize, blocks: this.#workspaceBlocks, window }, heap);
    try {
      for (const chunk of chunks) {
        const { blockTable, sequences, positions, segments } = chunk;
        const step = { blockTable, sequences, positions, segments };
        planned.push({
          ...chunk,
          slotPlans: chunk.workspaceSlots.map((slots) => new SlotPlan(slots, size)),
          plan: backend.planAttention(window === undefined ? step : { ...step, window }, size),
        });
      }
    } catch (error) {
      for (const chunk of planned) chunk.plan.free();
      throw error;
    } finally {
      for (const { blockTable } of chunks) blockTable.free();
    }
    this.#chunks.set(window, planned);
    return planned;
  }

  /** Also called for no rows: where ranks share a GPU, each takes part in every op. */
  async #attendChunk(
    layer: number,
    { plan }: PlannedChunk,
    query: Tensor,
    { scale, softcap }: AttentionVariant,
    partial: State,
  ): Promise<void> {
    await this.#options.backend.partialAttention({
      query,
      ...this.#workspace.operands(layer),
      plan,
      headGroup: this.#headGroup,
      scale,
      ...(softcap === undefined ? {} : { softcap }),
      out: partial.out,
      lse: partial.lse,
    });
  }
}

interface State {
  readonly out: Tensor;
  readonly lse: Tensor;
}

function cut({ out, lse }: State, from: number, to: number): State {
  return { out: out.slice(0, from, to), lse: lse.slice(0, from, to) };
}
