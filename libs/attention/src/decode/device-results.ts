import type { Completion, Operand } from "@lockstep/kernels";
import type { StepPlan } from "../kv/step-plan.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import type { LocalAttention } from "./local-attention.ts";

/**
 * Attention of a rank that is alone, from a query on its GPU to results there: nothing leaves it between layers.
 * Scratch memory on the GPU is allocated when it is needed first.
 */
export class DeviceResults {
  /** True when results may stay where they were computed: no other rank, the host, another base or exact sum needs them. */
  readonly canKeep: boolean;
  readonly #options: ResolvedOptions;
  /** LSEs that nobody asked for [rows, queryHeads]. */
  #lse: Operand | undefined;
  /** Outputs before they are rounded [rows, queryHeads, valueDim]. */
  #unrounded: Operand | undefined;

  constructor(options: ResolvedOptions) {
    const { lseBase, onPartialLse, isWorldInvariant } = options.exchange;
    this.#options = options;
    const isPlain = lseBase === "e" && onPartialLse === undefined && !isWorldInvariant;
    this.canKeep = options.groups.isAlone && isPlain;
  }

  /** @throws DeviceError */
  attend(
    local: LocalAttention,
    layer: number,
    plan: StepPlan,
    query: Operand,
    out: Operand,
    givenLse: Operand | undefined,
  ): Completion {
    const { backend, model, steps } = this.#options;
    const { queryHeads, valueDim } = model;
    const { queries } = plan;
    this.#lse ??= backend.empty("f32", [steps.maxQueries, queryHeads]);
    const spare = this.#lse.slice(0, 0, queries);
    if (out.dtype === "f32") return local.attend(layer, plan, query, out, givenLse ?? spare);
    this.#unrounded ??= backend.empty("f32", [steps.maxQueries, queryHeads, valueDim]);
    const unrounded = this.#unrounded.slice(0, 0, queries);
    const result = { out, ...(givenLse === undefined ? {} : { lse: givenLse }) };
    // A state alone merges into itself, rounded.
    return backend.batch(() => {
      void local.attend(layer, plan, query, unrounded, spare);
      void backend.mergeAttnStates({ outs: [unrounded], lses: [spare], nonFinite: "propagate", ...result });
    });
  }

  /** Frees the scratch memory. */
  close(): void {
    this.#lse?.free();
    this.#unrounded?.free();
  }
}
