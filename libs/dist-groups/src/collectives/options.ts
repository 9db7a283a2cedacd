import type { Reduction } from "../wire/collective-header.ts";

/** Options of every collective. */
export interface CollectiveOptions {
  /** Longest wait for peers, in milliseconds. Default: the world's `deadlineMs`. */
  readonly deadlineMs?: number | undefined;
}

/** Options of collectives along a dimension: default 0; negative counts from the end. */
export interface DimOptions extends CollectiveOptions {
  /** The dimension. */
  readonly dim?: number | undefined;
}

/** Options of collectives that reduce. Default `sum`. */
export interface ReductionOptions extends CollectiveOptions {
  /** How elements become one. */
  readonly op?: Reduction | undefined;
}

/** Options of `readPeers`. */
export interface ReadOptions extends CollectiveOptions {
  /** What `read` takes from peers, in bytes, for the counters. Default 0. */
  readonly bytesRead?: number | undefined;
}
