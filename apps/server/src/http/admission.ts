import { ApiError } from "./api-error.ts";
import { RETRY_LATER_MS } from "./engine-error.ts";

/** Lets requests that generate in, so many at a time, until the server drains. */
export class Admission {
  readonly #most: number;
  #inFlight = 0;
  #isDraining = false;
  #whenIdle: (() => void)[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  /** Requests that were let in and have not left. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Whether nobody is let in any more. */
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Lets a request in, and returns what it leaves with, once. @throws ApiError 429 when too many are in, 503 */
  enter(): () => void {
    if (this.#isDraining) {
      throw new ApiError(503, "The server ends: it takes no more requests.", {
        code: "draining",
        retryAfterMs: RETRY_LATER_MS,
        headers: { connection: "close" },
      });
    }
    if (this.#inFlight >= this.#most) {
      throw new ApiError(429, `${this.#most} requests are served already, the most that may.`, {
        code: "server_busy",
        retryAfterMs: RETRY_LATER_MS,
      });
    }
    this.#inFlight++;
    let isIn = true;
    return () => {
      if (!isIn) return;
      isIn = false;
      if (--this.#inFlight > 0) return;
      for (const idle of this.#whenIdle) idle();
      this.#whenIdle = [];
    };
  }

  /** Lets nobody in from now on. Resolves when all have left. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    if (this.#inFlight > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
  }
}
