import type { ProcessGroup } from "@lockstep/dist-groups";
import { type Allocator, Tensor } from "@lockstep/tensor";

/** Steps of about one size: what is known of them. */
export interface SizeClass<Choice extends string> {
  /** Steps of at most so many query tokens, and more than half of it. */
  readonly queries: number;
  /** Whose query tokens see at most so many positions on average, and more than half of it; 0 where that is ignored. */
  readonly context: number;
  readonly candidates: readonly Choice[];
  /** Milliseconds, candidates in turn. */
  readonly trials: number[];
  chosen: Choice | undefined;
  readonly microseconds: Partial<Record<Choice, number>>;
}

/** Each candidate is timed so often before the ranks agree; the first half only warms up. */
const TRIALS = 24;

/**
 * Chooses between ways to do a step by what they cost here, for each size of step. The first steps of a size run every
 * candidate in turn, on real work, since all give the same bits; then the ranks agree. Of each trial the shortest time
 * of all ranks counts: the others' includes waiting for a peer. Every rank makes the same calls, so all try and choose
 * alike.
 */
export class TimedChoice<Choice extends string> {
  readonly #group: ProcessGroup;
  readonly #allocator: Allocator;
  readonly #deadlineMs: number | undefined;
  readonly #margin: number;
  readonly #classes = new Map<string, SizeClass<Choice>>();

  /** @param margin share by which a candidate must be faster than the ones before it */
  constructor(group: ProcessGroup, allocator: Allocator, deadlineMs: number | undefined, margin = 0) {
    this.#group = group;
    this.#allocator = allocator;
    this.#deadlineMs = deadlineMs;
    this.#margin = margin;
  }

  /** What was found so far, smallest steps first. */
  get classes(): SizeClass<Choice>[] {
    return [...this.#classes.values()].sort((a, b) => a.queries - b.queries || a.context - b.context);
  }

  /**
   * The class of steps of `queries` query tokens; the first candidate wins a tie.
   * @param positions that all query tokens see together, where the choice depends on it
   */
  sizeClass(queries: number, candidates: readonly Choice[], positions?: number): SizeClass<Choice> {
    const most = nextPowerOfTwo(queries);
    const context = positions === undefined ? 0 : nextPowerOfTwo(positions / queries);
    const key = `${most} ${context} ${candidates.length}`;
    let size = this.#classes.get(key);
    if (size === undefined) {
      size = { queries: most, context, candidates, trials: [], chosen: undefined, microseconds: {} };
      this.#classes.set(key, size);
    }
    return size;
  }

  /** The candidate for the next step of a class. */
  next(size: SizeClass<Choice>): Choice {
    if (size.chosen === undefined && size.trials.length === TRIALS * size.candidates.length) this.#agree(size);
    const next = size.chosen ?? size.candidates[size.trials.length % size.candidates.length];
    if (next === undefined) throw new RangeError("there is nothing to choose from");
    return next;
  }

  /** Records what the candidate that `next` named took. */
  record(size: SizeClass<Choice>, milliseconds: number): void {
    if (size.chosen === undefined) size.trials.push(milliseconds);
  }

  #agree(size: SizeClass<Choice>): void {
    const shared = Tensor.from(this.#allocator, "f32", [size.trials.length], size.trials);
    try {
      this.#group.allReduce(shared, shared, { op: "min", deadlineMs: this.#deadlineMs });
      const costs = shared.toNumbers();
      let best = Number.POSITIVE_INFINITY;
      for (const [index, candidate] of size.candidates.entries()) {
        const own = costs
          .filter((_, trial) => trial % size.candidates.length === index)
          .slice(TRIALS / 2)
          .sort();
        const median = own[Math.floor(own.length / 2)] ?? 0;
        size.microseconds[candidate] = median * 1000;
        if (median >= best * (1 - this.#margin)) continue;
        best = median;
        size.chosen = candidate;
      }
    } finally {
      shared.free();
    }
  }
}

function nextPowerOfTwo(number: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, number)));
}
