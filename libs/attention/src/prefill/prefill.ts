import type { Operand } from "@lockstep/kernels";
import { Arena, StagedTensors, type Tensor } from "@lockstep/tensor";
import { expectOperand, expectResults } from "../arguments/expect-tensor.ts";
import { withHeapOperands } from "../arguments/operand-memory.ts";
import { convertLse } from "../combine/lse-base.ts";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { StepPlan } from "../kv/step-plan.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import type { ContextAttention } from "./context-attention.ts";
import { ContinuedContext } from "./continued-context.ts";
import { ContinuedOnDevice } from "./continued-on-device.ts";
import { LatticeContext } from "./lattice-context.ts";
import { MergedContext } from "./merged-context.ts";
import { OwnContext } from "./own-context.ts";
import { pcpRows } from "./pcp-rows.ts";
import { workspaceBlocks } from "./planned-chunks.ts";
import { type PrefillPlan, planPrefill } from "./prefill-plan.ts";
import { useOfPeers } from "./use-of-peers.ts";

const NAME = "DcpAttention.prefill";

/**
 * Prefill over a sharded KV cache: every rank attends for its own query heads and its own tokens over the whole
 * context. What other ranks have stored of it comes chunk by chunk, in memory of bounded size: see
 * {@link ContinuedContext}, for GPUs {@link ContinuedOnDevice}, where bits may depend on chunks {@link MergedContext}
 * and, where they may not even depend on the ranks, {@link LatticeContext}.
 *
 * With many query tokens this moves less than gathering queries and combining outputs: KV rows of a context, once for
 * each rank, instead of queries and f32 outputs of all heads for every token.
 */
export class Prefill {
  readonly #options: ResolvedOptions;
  readonly #caches: KvCaches;
  readonly #scratch: Arena;
  readonly #context: ContextAttention;
  /** Copies, where the peers reach them, of new keys and values in a memory of the rank's own. */
  readonly #staged: StagedTensors;
  #plan: PrefillPlan | undefined;

  /**
   * Allocates what chunks go through.
   * @param chunkTokens most tokens of a chunk, over all shards; rounded up to a multiple of the border
   * @param border as of {@link agreedBorder}
   * @throws HeapExhausted, DeviceError: nothing stays allocated then
   */
  constructor(options: ResolvedOptions, caches: KvCaches, chunkTokens: number, border: number) {
    const { backend, heap, model, groups } = options;
    const chunk = { blocks: workspaceBlocks(options.cache, chunkTokens, border), border };
    const { blocks } = chunk;
    const width = backend.sumsWidth(model.valueDim);
    this.#options = options;
    this.#caches = caches;
    this.#staged = new StagedTensors(heap);
    const [bytes, open] = options.exchange.isWorldInvariant
      ? [LatticeContext.bytes(options, blocks), () => new LatticeContext(options, caches, chunk, this.#scratch)]
      : groups.dcp.size === 1
        ? [OwnContext.bytes(options), () => new OwnContext(options, caches, this.#scratch)]
        : width === undefined
          ? [MergedContext.bytes(options, blocks), () => new MergedContext(options, caches, chunk, this.#scratch)]
          : backend.isSynchronous
            ? [
                ContinuedContext.bytes(options, blocks, width),
                () => new ContinuedContext(options, caches, chunk, width, this.#scratch),
              ]
            : [
                ContinuedOnDevice.bytes(options, blocks),
                () => new ContinuedOnDevice(options, caches, chunk, width, this.#scratch),
              ];
    this.#scratch = new Arena(heap, bytes);
    try {
      this.#context = open();
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
    this.#plan = planPrefill(step, tokens, rank, size, this.#options.cache.own);
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
      await this.#context.attend(layer, plan, queries, outs, lses);
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
    await useOfPeers(
      groups.pcp,
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
    if (refused !== undefined) throw refused;
  }

  /** To be called when a step ends. */
  end(): void {
    this.#plan = undefined;
    this.#context.end();
  }

  close(): void {
    this.end();
    this.#context.close();
    this.#staged.free();
    this.#scratch.close();
  }

  #during(): PrefillPlan {
    if (this.#plan === undefined) throw new RangeError("no prefill is under way");
    return this.#plan;
  }
}
