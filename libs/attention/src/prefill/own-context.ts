import type { AttentionPlan } from "@lockstep/kernels";
import { type Allocator, Tensor } from "@lockstep/tensor";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import { type ContextAttention, scoreArgs, sinkArgs, variantOf } from "./context-attention.ts";
import type { PrefillPlan } from "./prefill-plan.ts";

/** Where this rank holds all of every context, it attends to its own cache: nothing is gathered. */
export class OwnContext implements ContextAttention {
  readonly #options: ResolvedOptions;
  readonly #caches: KvCaches;
  /** What the step's tokens see, by the layers' windows. */
  readonly #plans = new Map<number | undefined, AttentionPlan>();
  /** Results that are to be rounded, and LSEs that nobody asked for. */
  readonly #out: Tensor;
  readonly #lse: Tensor;

  /** Allocates from `scratch`, which the caller closes. */
  constructor(options: ResolvedOptions, caches: KvCaches, scratch: Allocator) {
    const { model, groups, steps } = options;
    const rows = [steps.maxQueries, groups.ownHeads.count];
    this.#options = options;
    this.#caches = caches;
    this.#out = Tensor.empty(scratch, "f32", [...rows, model.valueDim]);
    this.#lse = Tensor.empty(scratch, "f32", rows);
  }

  /** Bytes of `scratch` that it takes. */
  static bytes({ model, groups, steps }: ResolvedOptions): number {
    return 4 * steps.maxQueries * groups.ownHeads.count * (model.valueDim + 1) + 256;
  }

  async attend(layer: number, plan: PrefillPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Promise<void> {
    const { backend, mergeBackend, groups } = this.#options;
    const variant = variantOf(this.#options, layer);
    const cut = (tensor: Tensor): Tensor => tensor.slice(0, 0, plan.rows.length);
    const isResult = groups.isAlone && out.dtype === "f32";
    const sums = isResult ? out : cut(this.#out);
    const sumsLse = groups.isAlone ? (lse ?? cut(this.#lse)) : cut(this.#lse);
    await backend.partialAttention({
      query,
      keyCache: this.#caches.key(layer),
      valueCache: this.#caches.value(layer),
      ...this.#caches.scales(layer),
      ...this.#caches.rowScales(layer),
      plan: this.#planFor(plan, variant.window),
      ...scoreArgs(this.#options, variant),
      ...sinkArgs(this.#options, variant),
      out: sums,
      lse: sumsLse,
    });
    if (isResult) return;
    if (groups.isAlone) {
      out.copyFrom(sums);
      return;
    }
    // As where ranks combine what each of them found: a state alone merges into itself.
    const result = { out, ...(lse === undefined ? {} : { lse }) };
    await mergeBackend.mergeAttnStates({ outs: [sums], lses: [sumsLse], nonFinite: "propagate", ...result });
  }

  end(): void {
    for (const plan of this.#plans.values()) plan.free();
    this.#plans.clear();
  }

  close(): void {
    this.end();
  }

  /** @throws HeapExhausted */
  #planFor({ step, sequences, positions }: PrefillPlan, window: number | undefined): AttentionPlan {
    const known = this.#plans.get(window);
    if (known !== undefined) return known;
    const { backend, cache, groups } = this.#options;
    const seen = { blockTable: step.blockTable, sequences, positions, shard: groups.shard };
    const plan = backend.planAttention(window === undefined ? seen : { ...seen, window }, cache.own);
    this.#plans.set(window, plan);
    return plan;
  }
}
