import {
  type AttentionOperands,
  type AttentionPlan,
  type Completion,
  type Operand,
  type PlannedAttentionArgs,
  type PreparedAttention,
  visibleRange,
} from "@lockstep/kernels";
import { MOST_PREPARED_TOKENS, RepeatedOperands } from "../arguments/repeated-operands.ts";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { StepPlan } from "../kv/step-plan.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";

type LayerArgs = Omit<AttentionOperands, "query" | "out" | "lse" | "sums">;

/** Query tokens of a step, all or some, and what they see. */
export type AttendedRows = Pick<StepPlan, "blockTable" | "sequences" | "positions" | "queries">;

/**
 * Attention of all query heads over this rank's own tokens: the partial results that ranks combine. Outputs in 16 bits
 * are rounded once, where they were computed, so that half as many bytes leave a GPU.
 */
export class LocalAttention {
  readonly #options: ResolvedOptions;
  readonly #caches: KvCaches;
  readonly #scoreFactor: number;
  readonly #layerArgs: LayerArgs[] = [];
  readonly #prepared = new RepeatedOperands<PreparedAttention>();
  /** What the queries of the step under way see, by the layers' windows. */
  readonly #plans = new Map<number | undefined, AttentionPlan>();
  /** By the layers' windows. */
  readonly #mostKeys = new Map<number | undefined, number>();
  /** Outputs and LSEs before they are rounded, on the backend; undefined where nothing is rounded. */
  readonly #unrounded: { readonly out: Operand; readonly lse: Operand } | undefined;
  readonly #lender: LocalAttention | undefined;

  /**
   * @param scoreFactor what scores are to be multiplied by because of how queries were gathered
   * @param lender one whose memory for what is not rounded yet this one uses in turn with it; closed after this one
   * @throws HeapExhausted, DeviceError
   */
  constructor(options: ResolvedOptions, caches: KvCaches, scoreFactor: number, lender?: LocalAttention) {
    const { backend, model, groups, exchange, steps } = options;
    const { queryHeads, valueDim } = model;
    this.#options = options;
    this.#caches = caches;
    this.#scoreFactor = scoreFactor;
    this.#lender = lender;
    if (lender !== undefined) {
      this.#unrounded = lender.#unrounded;
      return;
    }
    if (groups.isAlone || exchange.partialDtype === "f32") return;
    const out = backend.empty("f32", [steps.maxQueries, queryHeads, valueDim]);
    try {
      this.#unrounded = { out, lse: backend.empty("f32", [steps.maxQueries, queryHeads]) };
    } catch (error) {
      out.free();
      throw error;
    }
  }

  /** Plans a step, once for all layers of a window. @throws HeapExhausted: nothing is planned then */
  begin({ blockTable, sequences, positions }: AttendedRows): void {
    const { backend, model, cache, groups } = this.#options;
    const step = { blockTable, sequences, positions, shard: groups.shard };
    try {
      for (const { window } of model.variants) {
        if (this.#plans.has(window)) continue;
        const seen = window === undefined ? step : { ...step, window };
        this.#plans.set(window, backend.planAttention(seen, cache.own));
      }
    } catch (error) {
      this.end();
      throw error;
    }
  }

  /** Forgets the step. */
  end(): void {
    for (const plan of this.#plans.values()) plan.free();
    this.#plans.clear();
    this.#mostKeys.clear();
  }

  /**
   * Attends for the step's query tokens.
   * @param out where it goes [T, queryHeads, valueDim], f32 or the partialDtype
   * @param lse where the natural LSE goes [T, queryHeads], f32
   */
  attend(
    layer: number,
    { queries }: Pick<AttendedRows, "queries">,
    query: Operand,
    out: Operand,
    lse: Operand,
  ): Completion {
    const { backend } = this.#options;
    const layerArgs = this.#layerArgs[layer] ?? this.#argsOf(layer);
    const plan = this.#planOf(layer);
    if (out.dtype === "f32" || this.#unrounded === undefined) {
      const prepared = queries > MOST_PREPARED_TOKENS ? undefined : backend.prepared;
      const args = (): PlannedAttentionArgs => ({ ...layerArgs, query, plan, out, lse });
      const known = prepared && this.#prepared.find(layer, query, out, lse, () => prepared.prepareAttention(args()));
      if (known === undefined) return backend.partialAttention(args());
      known.attend(plan);
      return undefined;
    }
    const args = { ...layerArgs, query, plan };
    const unrounded = this.#unrounded.out.slice(0, 0, queries);
    const unroundedLse = this.#unrounded.lse.slice(0, 0, queries);
    // A state alone merges into itself, rounded.
    return backend.batch(() => {
      void backend.partialAttention({ ...args, out: unrounded, lse: unroundedLse });
      void backend.mergeAttnStates({ outs: [unrounded], lses: [unroundedLse], nonFinite: "propagate", out, lse });
    });
  }

  /**
   * The largest scores of the step's query tokens among this rank's keys.
   * @param bounds where they go [3, T, queryHeads], f32: see `attentionBounds`
   * @param scores where scores are kept for {@link sums}, if there is room
   */
  bounds(layer: number, query: Operand, bounds: Operand, scores: Operand | undefined): Completion {
    return this.#options.backend.attentionBounds({ ...this.#latticeArgs(layer, query, scores), bounds });
  }

  /**
   * This rank's exact sums, relative to the largest scores of all ranks.
   * @param bounds of all ranks [3, T, queryHeads], f32
   * @param sums where they go [T, queryHeads, valueDim + 1, 2], i32: see `latticeSums`
   * @param scores as {@link bounds} left them
   */
  sums(layer: number, query: Operand, bounds: Operand, sums: Operand, scores: Operand | undefined): Completion {
    return this.#options.backend.latticeSums({ ...this.#latticeArgs(layer, query, scores), bounds, sums });
  }

  /** The most keys that a query token of the step sees here, in a layer. */
  mostKeys(layer: number, { positions }: StepPlan): number {
    const { window } = this.#options.model.variants[layer] ?? {};
    const known = this.#mostKeys.get(window);
    if (known !== undefined) return known;
    const { shard } = this.#options.groups;
    let most = 0;
    for (let query = 0; query < positions.length; query++) {
      const { start, end } = visibleRange(shard, positions[query] ?? -1, window);
      most = Math.max(most, end - start);
    }
    this.#mostKeys.set(window, most);
    return most;
  }

  #latticeArgs(layer: number, query: Operand, scores: Operand | undefined) {
    const layerArgs = this.#layerArgs[layer] ?? this.#argsOf(layer);
    return { ...layerArgs, plan: this.#planOf(layer), query, ...(scores === undefined ? {} : { scores }) };
  }

  #planOf(layer: number): AttentionPlan {
    const plan = this.#plans.get(this.#options.model.variants[layer]?.window);
    if (plan === undefined) throw new RangeError("no step is under way");
    return plan;
  }

  close(): void {
    this.end();
    this.#prepared.free();
    if (this.#lender !== undefined) return;
    this.#unrounded?.out.free();
    this.#unrounded?.lse.free();
  }

  /** What a layer's attention takes at every step; kept. */
  #argsOf(layer: number): LayerArgs {
    const { model, groups } = this.#options;
    const keyCache = this.#caches.key(layer);
    const variant = model.variants[layer];
    if (variant === undefined) throw new RangeError(`there is no layer ${layer}`);
    const { sinks, scale, softcap } = variant;
    const args: LayerArgs = {
      keyCache,
      valueCache: this.#caches.value(layer),
      ...this.#caches.scales(layer),
      ...this.#caches.rowScales(layer),
      scale: scale * this.#scoreFactor,
      ...(softcap === undefined ? {} : { softcap }),
      // Sinks join once: on the rank that holds the first tokens.
      ...(sinks === undefined || groups.shard.index !== 0 ? {} : { sinks }),
      headGroup: model.headGroup,
    };
    this.#layerArgs[layer] = args;
    return args;
  }
}
