import type { EngineStatus } from "@lockstep/language-model";

/** Totals that an engine of the tests counts up. */
export type CountedTotals = { -readonly [K in keyof EngineStatus["totals"]]: number };

/** Totals of an engine that did nothing yet. */
export function noTotals(): CountedTotals {
  return {
    steps: 0,
    requests: 0,
    finished: 0,
    cancelled: 0,
    failed: 0,
    refused: 0,
    promptTokens: 0,
    cachedTokens: 0,
    computedTokens: 0,
    generatedTokens: 0,
    preemptions: 0,
    restarts: 0,
    resizes: 0,
  };
}
