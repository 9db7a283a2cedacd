import { type Operand, SlotPlan } from "@lockstep/kernels";
import { Arena, StagedTensors, Tensor } from "@lockstep/tensor";
import { expectOperand, expectResults } from "../arguments/expect-tensor.ts";
import { withHeapOperands } from "../arguments/operand-memory.ts";
import { convertLse } from "../combine/lse-base.ts";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { StepPlan } from "../kv/step-plan.ts";
import type { AttentionVariant } from "../options/attention-variant.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import { pcpRows } from "./pcp-rows.ts";
import { type PlannedChunk, type PrefillPlan, planPrefill, prefillChunks } from "./prefill-plan.ts";
import { PrefillWorkspace } from "./prefill-workspace.ts";

const NAME = "DcpAttention.prefill";

/**
 * Prefill over a sharded KV cache: every rank attends for its own query heads and its own tokens over the whole
 * context, which comes to it chunk by chunk. A chunk's keys and values, wherever they are stored, are gathered into a
 * workspace of bounded size and put in the order of their positions; each chunk's attention is merged with what came
 * before by LSE.
 *
 * With many query tokens this moves less than gathering queries and combining outputs: KV rows of a context, once for
 * each rank, instead of queries and f32 outputs of all heads for every token.
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
  /** Copies, where the peers reach them, of new keys and values in a memory of the rank's own. */
  readonly #staged: StagedTensors;
  #plan: PrefillPlan | undefined;
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
    this.#staged = new StagedTensors(heap);
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

  /** What the step under way stores and asks; undefined between steps. */
  get plan(): PrefillPlan | undefined {
    return this.#plan;
  }

  /** Most query tokens that a rank brings in a step of so many new tokens of each sequence. */
  queriesOf(tokens: readonly number[]): number {
    const { size = 1 } = this.#options.groups.pcp ?? {};
    const total = tokens.reduce((sum, count) => sum + count, 0);
    const even = Math.ceil(total / size);
    // Too many already, and perhaps too many to list.
    if (even > this.#options.steps.maxQueries) return even;
    return Math.max(...pcpRows(tokens, size).map(({ length }) => length));
  }

  /** To be called when a step begins. */
  begin(step: StepPlan, tokens: readonly number[]): PrefillPlan {
    const { rank = 0, size = 1 } = this.#options.groups.pcp ?? {};
    this.#plan = planPrefill(step, tokens, rank, size, this.#options.cache);
    return this.#plan;
  }

  /** Throws ArgumentError unless these are what {@link Prefill.forward} takes. */
  check(
    layer: number,
    query: Operand,
    key: Operand,
    value: Operand | undefined,
    out: Operand,
    lse: Operand | undefined,
  ): void {
    const { model, cache, groups, exchange } = this.#options;
    const { headDim, valueDim, kvHeads } = model;
    const { queryDtype } = exchange;
    const rows = this.#during().rows.length;
    const { count } = groups.ownHeads;
    const stored = cache.hasRowScales ? [] : [cache.dtype];
    expectOperand(NAME, "query", query, [queryDtype], [rows, count, headDim]);
    expectOperand(NAME, "key", key, ["f32", "f16", "bf16", ...stored], [rows, kvHeads, headDim]);
    if (value !== undefined) expectOperand(NAME, "value", value, [key.dtype], [rows, kvHeads, valueDim]);
    expectOperand(NAME, "out", out, ["f32", queryDtype], [rows, count, valueDim]);
    if (lse !== undefined) expectOperand(NAME, "lse", lse, ["f32"], [rows, count]);
    expectResults(NAME, out, lse, this.#caches.key(layer), this.#caches.value(layer));
  }

  /** Arguments as of {@link DcpAttention.prefill}. */
  async forward(
    layer: number,
    query: Operand,
    key: Operand,
    value: Operand | undefined,
    out: Operand,
    lse: Operand | undefined,
  ): Promise<void> {
    const { backend, heap, exchange } = this.#options;
    const plan = this.#during();
    const [inputs, outputs] = [[query, key, value] as const, [out, lse] as const];
    await withHeapOperands(backend, heap, inputs, outputs, async ([queries, keys, values], [outs, lses]) => {
      await this.#write(layer, plan, keys, values);
      await this.#attend(layer, plan, queries, outs, lses);
      if (lses !== undefined) convertLse(lses, "e", exchange.lseBase, lses);
    });
  }

  /** Stores this rank's shard of the step's keys and values, which the PCP ranks bring between them. */
  async #write(layer: number, plan: PrefillPlan, key: Tensor, value: Tensor | undefined): Promise<void> {
    const { groups, exchange } = this.#options;
    const caches = this.#caches;
    caches.checkValue(value);
    if (groups.pcp === undefined) {
      caches.checkFinite(layer, key, value);
      return caches.write(layer, key, value, plan.step.slotPlan);
    }
    // The peers read them where they lie.
    const own = [this.#staged.copyOf("key", key)];
    if (value !== undefined) own.push(this.#staged.copyOf("value", value));
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
  async #attend(layer: number, plan: PrefillPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Promise<void> {
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
  end(): void {
    this.#plan = undefined;
    for (const chunks of this.#chunks.values()) for (const { plan } of chunks) plan.free();
    this.#chunks.clear();
  }

  close(): void {
    this.end();
    this.#workspace.close();
    this.#staged.free();
    this.#scratch.close();
  }

  #during(): PrefillPlan {
    if (this.#plan === undefined) throw new RangeError("no prefill is under way");
    return this.#plan;
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
