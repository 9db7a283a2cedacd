/** The share of a new time in the mean. */
const NEW_SHARE = 0.2;
/** The mean before anything ended. */
const FIRST_MS = 1000;

/** How long an engine takes of late from the end of one request to the end of the next. Idle times do not count. */
export class TimeBetweenEnds {
  #meanMs = FIRST_MS;
  #sinceMs = 0;

  /** The mean, in which the last times weigh most. */
  get meanMs(): number {
    return this.#meanMs;
  }

  /** There is something to do again. */
  began(nowMs: number): void {
    this.#sinceMs = nowMs;
  }

  /** A request ended. */
  ended(nowMs: number): void {
    this.#meanMs += NEW_SHARE * (nowMs - this.#sinceMs - this.#meanMs);
    this.#sinceMs = nowMs;
  }
}
