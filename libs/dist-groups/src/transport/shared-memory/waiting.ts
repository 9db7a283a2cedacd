import { CoreSpread } from "./core-spread.ts";
import { type NativeScheduler, openNativeScheduler } from "./native-scheduler.ts";
import type { RankStatus } from "./rank-status.ts";
import { SpinBudget } from "./spin-budget.ts";

/** How one rank waits, in all of its groups: spin, then yield, then park. */
export interface Waiting {
  readonly budget: SpinBudget;
  /** Undefined where the core cannot be given away. */
  readonly scheduler: NativeScheduler | undefined;
  /** Undefined when ranks outnumber the cores, or nothing can be moved. */
  readonly spread: CoreSpread | undefined;
}

/** How a rank of a world of `ranks` on a machine of `cores` waits. */
export function openWaiting(rank: number, ranks: number, cores: number, status: RankStatus): Waiting {
  const scheduler = openNativeScheduler();
  return {
    budget: new SpinBudget(ranks, cores, scheduler !== undefined),
    scheduler,
    spread: scheduler === undefined || ranks > cores ? undefined : new CoreSpread(rank, status, scheduler),
  };
}
