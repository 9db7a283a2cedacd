/** How long after something has come the next look is at once, in milliseconds. */
const BUSY_MS = 2;
/** Then looks are so far apart for so long; then they are a few milliseconds apart. */
const SOON_MS = 1;
const SOON_FOR_MS = 500;
const LATER_MS = 5;

/**
 * Looks again and again for what has come, for as long as somebody holds it. MPI wakes nobody, so the time until the
 * next look depends on how long ago something came.
 */
export class Pump {
  readonly #look: () => boolean;
  #holders = 0;
  #isScheduled = false;
  #activeAt = 0;

  /** `look` takes what has come, and is true when there was something. */
  constructor(look: () => boolean) {
    this.#look = look;
  }

  /** Looks from now on until the holder lets go. The process stays alive meanwhile. */
  hold(): Disposable {
    this.#holders++;
    this.hurry();
    this.#schedule();
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.#holders--;
        isHeld = false;
      },
    };
  }

  /** Something is about to come. */
  hurry(): void {
    this.#activeAt = performance.now();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#holders === 0) return;
    this.#isScheduled = true;
    const quiet = performance.now() - this.#activeAt;
    const look = (): void => {
      this.#isScheduled = false;
      try {
        if (this.#look()) this.hurry();
      } finally {
        this.#schedule();
      }
    };
    if (quiet < BUSY_MS) setImmediate(look);
    else setTimeout(look, quiet < SOON_FOR_MS ? SOON_MS : LATER_MS);
  }
}
