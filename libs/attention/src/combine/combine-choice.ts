import type { ProcessGroup } from "@lockstep/dist-groups";
import { type Allocator, Tensor } from "@lockstep/tensor";
import { type Combine, DEFAULT_COMBINE } from "./combine.ts";

/** What `auto` chose for steps of one size, and what it measured. */
export interface CombineChoiceMetrics {
  /** Steps of at most so many query tokens, and more than half of it. */
  readonly queries: number;
  /** The combine in use; undefined while they are still being timed. */
  readonly combine: Combine | undefined;
  /** Median microseconds of each candidate, the same on every rank; empty while they are still being timed. */
  readonly microseconds: Partial<Record<Combine, number>>;
}

/** Steps of about one size: what is known of them. */
export interface SizeClass {
  readonly queries: number;
  readonly candidates: readonly Combine[];
  /** Milliseconds, candidates in turn. */
  readonly trials: number[];
  chosen: Combine | undefined;
  readonly microseconds: Partial<Record<Combine, number>>;
}

/** Each candidate is timed so often before the ranks agree; the first half only warms up. */
const TRIALS = 24;

/**
 * Chooses a combine by what it costs here, for each size of step. The first steps of a size run every candidate in
 * turn, on real work, since all give the same bits; then the ranks agree. Of each trial the shortest time of all ranks
 * counts: the others' includes waiting for a peer. Every rank makes the same calls, so all try and choose alike.
 */
export class CombineChoice {
  readonly #group: ProcessGroup;
  readonly #allocator: Allocator;
  readonly #deadlineMs: number | undefined;
  readonly #classes = new Map<string, SizeClass>();

  constructor(group: ProcessGroup, allocator: Allocator, deadlineMs: number | undefined) {
    this.#group = group;
    this.#allocator = allocator;
    this.#deadlineMs = deadlineMs;
  }

  /** What was chosen so far, smallest steps first. */
  get metrics(): CombineChoiceMetrics[] {
    return [...this.#classes.values()]
      .map(({ queries, chosen: combine, microseconds }) => ({ queries, combine, microseconds }))
      .sort((a, b) => a.queries - b.queries);
  }

  /** The class of steps of `queries` query tokens; the first candidate wins a tie. */
  sizeClass(queries: number, candidates: readonly Combine[]): SizeClass {
    const most = 2 ** Math.ceil(Math.log2(Math.max(1, queries)));
    const key = `${most} ${candidates.length}`;
    let size = this.#classes.get(key);
    if (size === undefined) {
      size = { queries: most, candidates, trials: [], chosen: undefined, microseconds: {} };
      this.#classes.set(key, size);
    }
    return size;
  }

  /** The combine for the next step of a class. */
  next(size: SizeClass): Combine {
    if (size.chosen === undefined && size.trials.length === TRIALS * size.candidates.length) this.#agree(size);
    return size.chosen ?? size.candidates[size.trials.length % size.candidates.length] ?? DEFAULT_COMBINE;
  }

  /** Records what the combine that `next` named took. */
  record(size: SizeClass, milliseconds: number): void {
    if (size.chosen === undefined) size.trials.push(milliseconds);
  }

  #agree(size: SizeClass): void {
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
        if (median >= best) continue;
        best = median;
        size.chosen = candidate;
      }
    } finally {
      shared.free();
    }
  }
}
