import type { EngineStatus } from "@lockstep/language-model";

/** Finds out that an engine has requests, but makes no steps. */
export class StuckWatch {
  readonly #afterMs: number;
  #steps = -1;
  #sinceMs = 0;

  /** @param afterMs milliseconds without a step that make it stuck */
  constructor(afterMs: number) {
    this.#afterMs = afterMs;
  }

  /** Milliseconds for which it has been stuck at `nowMs`; 0 when it is not. To be asked again and again. */
  stuckMs({ state, running, totals }: EngineStatus, nowMs: number): number {
    const isIdle = state !== "ready" || running === 0;
    if (isIdle || totals.steps !== this.#steps) {
      this.#steps = isIdle ? -1 : totals.steps;
      this.#sinceMs = nowMs;
    }
    const still = nowMs - this.#sinceMs;
    return still >= this.#afterMs ? still : 0;
  }
}
