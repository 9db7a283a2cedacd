import { openNativeScheduler } from "../shared-memory/native-scheduler.ts";

/** How long a rank that waits gives its core away between polls before it sleeps between them, in milliseconds. */
const YIELD_MS = 2;
/** The shortest and the longest sleep, in milliseconds. */
const SHORTEST_SLEEP_MS = 0.05;
const LONGEST_SLEEP_MS = 1;
/** How long event loops turn between polls before they sleep. */
const TURN_MS = 1;
/** Looks at a peer before a rank that has a core to itself looks at the clock, and one that shares its core. */
const SPINS_ALONE = 400;
const SPINS_SHARED = 4;

/** How one rank waits for messages, in all of its groups: nobody wakes it. */
export class PollingWait {
  /** Looks at a peer before the clock is read. */
  readonly spins: number;
  readonly #scheduler = openNativeScheduler();
  readonly #idle = new Int32Array(new SharedArrayBuffer(4));
  #since = 0;

  /** `isCrowded`: the machine runs more ranks than it has cores. */
  constructor(isCrowded: boolean) {
    this.spins = isCrowded ? SPINS_SHARED : SPINS_ALONE;
  }

  /** A wait begins. */
  begin(now: number): void {
    this.#since = now;
  }

  /** Lets time pass between two polls. */
  pause(now: number): void {
    const waited = now - this.#since;
    if (waited < YIELD_MS && this.#scheduler !== undefined) this.#scheduler.yieldCore();
    else Atomics.wait(this.#idle, 0, 0, Math.min(LONGEST_SLEEP_MS, Math.max(SHORTEST_SLEEP_MS, waited / 20)));
  }

  /** The same for event loops, after `waited` milliseconds. */
  pauseAsync(waited: number): Promise<void> {
    return new Promise((resolve) => {
      if (waited < TURN_MS) setImmediate(resolve);
      else setTimeout(resolve, LONGEST_SLEEP_MS);
    });
  }
}
