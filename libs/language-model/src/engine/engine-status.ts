/** How busy an engine is, and what it did since it was opened. */
export interface EngineStatus {
  /** "ready" serves; "restarting" opens its ranks again; "failed" could not; "closed" was closed. */
  readonly state: "ready" | "restarting" | "failed" | "closed";
  /** Requests that are being computed. */
  readonly running: number;
  /** Requests that wait for their turn. */
  readonly waiting: number;
  /**
   * KV blocks of each rank: all; those that texts hold; those that nobody holds but whose contents are kept for texts
   * that begin alike; the others are free.
   */
  readonly blocks: { readonly total: number; readonly used: number; readonly cached: number };
  /** Tokens that a block of all ranks together holds. */
  readonly blockTokens: number;
  /** Those that each rank of a DCP group holds, in their order. */
  readonly rankBlockTokens: readonly number[];
  /** Totals since it was opened. */
  readonly totals: EngineTotals;
}

/** What an engine did since it was opened. */
export interface EngineTotals {
  /** Forward passes. */
  readonly steps: number;
  /** Requests taken. */
  readonly requests: number;
  /** Requests that ended well. */
  readonly finished: number;
  /** Requests that were given up by those who asked. */
  readonly cancelled: number;
  /** Requests that failed with the ranks. */
  readonly failed: number;
  /** Requests refused because too many waited. */
  readonly refused: number;
  /** Tokens of the prompts of requests that were begun. */
  readonly promptTokens: number;
  /** Those of `promptTokens` that were not computed, as they were known from others. */
  readonly cachedTokens: number;
  /**
   * Tokens whose keys and values were computed: those of prompts that were not known, and each generated one but the
   * last; again only where a request gave its blocks up.
   */
  readonly computedTokens: number;
  /** Tokens generated. */
  readonly generatedTokens: number;
  /** Times that a request gave its blocks up for others, to be computed again. */
  readonly preemptions: number;
  /** Times that the ranks were opened again. */
  readonly restarts: number;
  /** Times that others took their place: see `Engine.resize`. */
  readonly resizes: number;
}
