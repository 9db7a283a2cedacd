/** Spins before parking when ranks outnumber cores: the peer cannot run while this rank spins. */
const FEWEST_SPINS = 50;
/** About 0.1 to 0.3 ms: several times what parking and waking cost. */
const MOST_SPINS = 8000;
/** A park shorter than this would have been cheaper as a spin. */
const SHORT_PARK_MS = 0.2;

/**
 * How long a rank spins before it parks. With a core per rank it adapts: parks that turn out short double the budget,
 * long ones halve it. With more ranks than cores it stays at the minimum, because spinning keeps the peer from running.
 */
export class SpinBudget {
  limit: number;
  readonly #most: number;

  constructor(ranks: number, cores: number) {
    this.#most = ranks > cores ? FEWEST_SPINS : MOST_SPINS;
    this.limit = this.#most;
  }

  /** Tells how long a park lasted. */
  parkedFor(milliseconds: number): void {
    this.limit =
      milliseconds < SHORT_PARK_MS
        ? Math.min(this.#most, this.limit * 2)
        : Math.max(FEWEST_SPINS, Math.floor(this.limit / 2));
  }
}
