import type { Combine } from "./combine.ts";
import type { TimedChoice } from "./timed-choice.ts";

/** What `auto` chose for steps of one size, and what it measured. */
export interface CombineChoiceMetrics {
  /** Steps of at most so many query tokens, and more than half of it. */
  readonly queries: number;
  /** The combine in use; undefined while they are still being timed. */
  readonly combine: Combine | undefined;
  /** Median microseconds of each candidate, the same on every rank; empty while they are still being timed. */
  readonly microseconds: Partial<Record<Combine, number>>;
}

/** What was chosen so far, smallest steps first. */
export function combineChoices(choice: TimedChoice<Combine>): CombineChoiceMetrics[] {
  return choice.classes.map(({ queries, chosen: combine, microseconds }) => ({ queries, combine, microseconds }));
}
