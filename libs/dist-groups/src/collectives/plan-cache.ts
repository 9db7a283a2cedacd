import type { Tensor } from "@lockstep/tensor";

/** Plans that are kept: a program that uses more pairs of tensors in turn makes them anew. */
const MOST_PLANS = 32;

/** What a plan was made for. */
export interface PlanKey {
  readonly input: Tensor;
  readonly output: Tensor;
  /** Whatever else tells plans of the same tensors apart, such as a dimension. */
  readonly variant: number;
}

/**
 * The last plans of one collective. A tensor never changes its shape or place, so a repeated call with the same tensors
 * needs the same checks, sizes and views: it finds them here, and allocates nothing. Programs repeat their calls in the
 * same order, so the search starts behind the plan that was found last.
 */
export class PlanCache<Plan extends PlanKey> {
  readonly #plans: Plan[] = [];
  #last = 0;
  #oldest = 0;

  find(input: Tensor, output: Tensor, variant: number): Plan | undefined {
    const count = this.#plans.length;
    let at = this.#last;
    for (let looked = 0; looked < count; looked++) {
      at = at + 1 < count ? at + 1 : 0;
      const plan = this.#plans[at];
      if (plan === undefined || plan.input !== input || plan.output !== output || plan.variant !== variant) continue;
      this.#last = at;
      return plan;
    }
    return undefined;
  }

  /** Keeps a plan, in place of the oldest when there are too many. */
  keep(plan: Plan): Plan {
    this.#plans[this.#oldest] = plan;
    this.#last = this.#oldest;
    this.#oldest = (this.#oldest + 1) % MOST_PLANS;
    return plan;
  }
}
