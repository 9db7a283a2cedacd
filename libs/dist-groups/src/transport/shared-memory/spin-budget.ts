/** Looks at the awaited word before the core is given away: about 6 us in Bun with a core per rank. */
const SPINS_WITH_CORES = 2_000;
/**
 * Milliseconds of looking on after them with a core per rank, before it is given away: about what a park and its
 * wake-up cost on a core that has gone idle, in a virtual machine. Beside the threads of a compiler a yield costs a
 * slice of theirs and makes ranks park for a while; then this is what keeps a layer's many short waits short.
 */
const SPIN_MS_WITH_CORES = 0.1;
/** With more ranks than cores the peer may be waiting for this very core. */
const SPINS_WITHOUT_CORES = 20;
/**
 * Milliseconds of yielding before parking: at most eight times what parking and waking cost; at least so many that a
 * budget which shrank sees when waits have become short again. A time, not a count: beside a thread that computes, each
 * yield lasts a slice.
 */
const MOST_YIELD_MS = 0.2;
const LEAST_YIELD_MS = 0.0125;

/**
 * A yield that took so long gave the core to a thread that computes. Once that is a peer between two collectives; again
 * and again it is somebody else, and then a park costs less: its wake-up comes before that thread.
 */
const LONG_YIELD_MS = 0.3;
/** With more ranks than cores peers compute between most yields: only what takes about a whole slice is long then. */
const LONG_YIELD_MS_WITHOUT_CORES = 2;
/** So many long yields within so many milliseconds and without so many short ones in turn are again and again. */
const LONG_YIELDS = 3;
const LONG_YIELDS_WITHIN_MS = 50;
const SHORT_YIELDS_BETWEEN = 32;
/** Waits that park at once then; twice as many each time it goes on, back to the fewest after so many short yields. */
const FEWEST_HELD_WAITS = 128;
const MOST_HELD_WAITS = 2048;
const SHORT_YIELDS_TO_FORGET = 512;

/** Where the core cannot be given away. About 0.15 ms in Bun (3 ns a spin), 0.6 ms in Deno. */
const MOST_SPINS = 50_000;
const FEWEST_SPINS = 50;
/** Parks before a budget that did not help is tried again. */
const HOLD_PARKS = 32;
/** A park shorter than this would have been cheaper as a spin. */
const SHORT_PARK_MS = 0.2;

/**
 * How long a rank looks at a peer's word before it parks: first `spins` looks, with a core per rank `spinMs`
 * milliseconds more, then `yieldMs` milliseconds of looks between yields, which cost nobody anything when other ranks
 * want the core. Beside threads that compute, a yield costs a slice of theirs, some milliseconds: after some such the
 * rank yields no more for a while, the longer the more often it happens. Parks that turn out short double the budget,
 * long ones halve it.
 *
 * Where the core cannot be given away a rank only spins, with more ranks than cores hardly at all, since that keeps the
 * peer from running. When even the largest budget ends in a short park, spinning does not help (something else has the
 * peer's core): then the rank parks at once for a while.
 */
export class SpinBudget {
  spins: number;
  yieldMs: number;
  /** Milliseconds of looking on, between the first looks and the yields. */
  readonly spinMs: number;
  readonly #mostSpins: number;
  readonly #longYieldMs: number;
  readonly #canYield: boolean;
  #hold = 0;
  #nextHold = FEWEST_HELD_WAITS;
  #shortYields = 0;
  #longYields = 0;
  #firstLongAt = 0;

  constructor(ranks: number, cores: number, canYield: boolean) {
    const scarce = ranks > cores;
    this.#canYield = canYield;
    this.#longYieldMs = scarce ? LONG_YIELD_MS_WITHOUT_CORES : LONG_YIELD_MS;
    this.yieldMs = canYield ? MOST_YIELD_MS : 0;
    if (canYield) this.#mostSpins = scarce ? SPINS_WITHOUT_CORES : SPINS_WITH_CORES;
    else this.#mostSpins = scarce ? FEWEST_SPINS : MOST_SPINS;
    this.spins = this.#mostSpins;
    this.spinMs = canYield && !scarce ? SPIN_MS_WITH_CORES : 0;
  }

  /**
   * Threads that have nothing to do with this world want the cores: yielding to them, or moving away from them, is of
   * no use.
   */
  get isHeld(): boolean {
    return this.#canYield && this.#hold > 0;
  }

  /** Tells how long a yield took that ended at `now`, both in milliseconds. */
  yieldedFor(milliseconds: number, now: number): void {
    if (milliseconds < this.#longYieldMs) {
      this.#shortYields++;
      if (this.#shortYields >= SHORT_YIELDS_BETWEEN) this.#longYields = 0;
      if (this.#shortYields >= SHORT_YIELDS_TO_FORGET) this.#nextHold = FEWEST_HELD_WAITS;
      return;
    }
    this.#shortYields = 0;
    if (this.#longYields === 0 || now - this.#firstLongAt > LONG_YIELDS_WITHIN_MS) {
      this.#longYields = 0;
      this.#firstLongAt = now;
    }
    this.#longYields++;
    // Just after a hold, one is enough to see that it goes on.
    if (this.#longYields < LONG_YIELDS && this.#nextHold === FEWEST_HELD_WAITS) return;
    this.yieldMs = 0;
    this.#hold = this.#nextHold;
    this.#nextHold = Math.min(MOST_HELD_WAITS, this.#nextHold * 2);
    this.#longYields = 0;
  }

  /** Tells how long a park lasted. */
  parkedFor(milliseconds: number): void {
    const long = milliseconds >= SHORT_PARK_MS;
    if (this.#canYield && this.#hold > 0) {
      this.#hold--;
      if (this.#hold === 0) this.yieldMs = LEAST_YIELD_MS;
    } else if (this.#canYield) {
      this.yieldMs = long ? Math.max(LEAST_YIELD_MS, this.yieldMs / 2) : Math.min(MOST_YIELD_MS, this.yieldMs * 2);
    } else if (long) this.spins = Math.max(FEWEST_SPINS, this.spins >> 1);
    else if (this.spins >= this.#mostSpins) {
      this.spins = FEWEST_SPINS;
      this.#hold = HOLD_PARKS;
    } else if (this.#hold > 0) this.#hold--;
    else this.spins = Math.min(this.#mostSpins, this.spins * 2);
  }
}
