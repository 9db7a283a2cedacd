/** Spins before parking when ranks outnumber cores: the peer cannot run while this rank spins. */
const FEWEST_SPINS = 50;
/**
 * About 0.15 ms in Bun (3 ns a spin), 0.6 ms in Deno: several times what parking and waking cost (25 us). Were it less, two
 * ranks that once parked would go on to park at every collective, each giving up just before the other is awake.
 */
const MOST_SPINS = 50_000;
/** Parks before a budget that did not help is tried again. */
const HOLD_PARKS = 128;
/** A park shorter than this would have been cheaper as a spin. */
const SHORT_PARK_MS = 0.2;

/**
 * How long a rank spins before it parks. With a core per rank it adapts: parks that turn out short double the budget, long ones
 * halve it. When even the largest budget ends in a short park, spinning does not help (ranks share a core, because something
 * else has the other one): then the rank parks at once for a while. With more ranks than cores it stays at the minimum, because
 * spinning keeps the peer from running.
 */
export class SpinBudget {
  limit: number;
  readonly #most: number;
  #hold = 0;

  constructor(ranks: number, cores: number) {
    this.#most = ranks > cores ? FEWEST_SPINS : MOST_SPINS;
    this.limit = this.#most;
  }

  /** Tells how long a park lasted. */
  parkedFor(milliseconds: number): void {
    if (milliseconds >= SHORT_PARK_MS) this.limit = Math.max(FEWEST_SPINS, Math.floor(this.limit / 2));
    else if (this.limit >= this.#most) {
      this.limit = FEWEST_SPINS;
      this.#hold = HOLD_PARKS;
    } else if (this.#hold > 0) this.#hold--;
    else this.limit = Math.min(this.#most, this.limit * 2);
  }
}
