import type { Tensor } from "@lockstep/tensor";

/** Plans that are kept: a program that exchanges more sets of tensors in turn makes them anew. */
const MOST_PLANS = 8;

/** What a plan was made for. The caller's arrays may change: these are copies. */
export interface TensorListKey {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /** Whatever else tells plans of the same tensors apart, such as a dimension. */
  readonly variant: number;
}

/** The last plans of a collective over lists of tensors, as plan-cache.ts keeps them for pairs. */
export class TensorListPlans<Plan extends TensorListKey> {
  readonly #plans: Plan[] = [];
  #oldest = 0;

  find(inputs: readonly Tensor[], outputs: readonly Tensor[], variant: number): Plan | undefined {
    for (let at = 0; at < this.#plans.length; at++) {
      const plan = this.#plans[at];
      if (plan === undefined || plan.variant !== variant) continue;
      if (areSame(plan.inputs, inputs) && areSame(plan.outputs, outputs)) return plan;
    }
    return undefined;
  }

  /** Keeps a plan, in place of the oldest when there are too many. */
  keep(plan: Plan): Plan {
    this.#plans[this.#oldest] = plan;
    this.#oldest = (this.#oldest + 1) % MOST_PLANS;
    return plan;
  }
}

function areSame(a: readonly Tensor[], b: readonly Tensor[]): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}
