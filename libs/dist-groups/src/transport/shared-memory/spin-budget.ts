/** Looks at the awaited word before the core is given away: about 6 us in Bun with a core per rank. */
const SPINS_WITH_CORES = 2_000;
/** With more ranks than cores the peer may be waiting for this very core. */
const SPINS_WITHOUT_CORES = 20;
/**
 * Yields before parking: 0.2 ms when nobody wants the core, ten times what parking and waking cost. The fewest keep a budget
 * that shrank able to see that waits have become short again.
 */
const MOST_YIELDS = 400;
const FEWEST_YIELDS = 25;

/** Where the core cannot be given away. About 0.15 ms in Bun (3 ns a spin), 0.6 ms in Deno. */
const MOST_SPINS = 50_000;
const FEWEST_SPINS = 50;
/** Parks before a budget that did not help is tried again. */
const HOLD_PARKS = 32;
/** A park shorter than this would have been cheaper as a spin. */
const SHORT_PARK_MS = 0.2;

/**
 * How long a rank looks at a peer's word before it parks: first `spins` looks, then a look after each of `yields` yields,
 * which cost nobody anything when other ranks want the core. Parks that turn out short double the budget, long ones halve it.
 *
 * Where the core cannot be given away a rank only spins, with more ranks than cores hardly at all, since that keeps the peer from
 * running. When even the largest budget ends in a short park, spinning does not help (something else has the peer's core):
 * then the rank parks at once for a while.
 */
export class SpinBudget {
  spins: number;
  yields: number;
  readonly #mostSpins: number;
  readonly #canYield: boolean;
  #hold = 0;

  constructor(ranks: number, cores: number, canYield: boolean) {
    const scarce = ranks > cores;
    this.#canYield = canYield;
    this.yields = canYield ? MOST_YIELDS : 0;
    if (canYield) this.#mostSpins = scarce ? SPINS_WITHOUT_CORES : SPINS_WITH_CORES;
    else this.#mostSpins = scarce ? FEWEST_SPINS : MOST_SPINS;
    this.spins = this.#mostSpins;
  }

  /** Tells how long a park lasted. */
  parkedFor(milliseconds: number): void {
    const long = milliseconds >= SHORT_PARK_MS;
    if (this.#canYield) {
      this.yields = long ? Math.max(FEWEST_YIELDS, this.yields >> 1) : Math.min(MOST_YIELDS, this.yields * 2);
    } else if (long) this.spins = Math.max(FEWEST_SPINS, this.spins >> 1);
    else if (this.spins >= this.#mostSpins) {
      this.spins = FEWEST_SPINS;
      this.#hold = HOLD_PARKS;
    } else if (this.#hold > 0) this.#hold--;
    else this.spins = Math.min(this.#mostSpins, this.spins * 2);
  }
}
