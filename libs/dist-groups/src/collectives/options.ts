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
  /**
   * `read` is given of every tensor only this rank's chunk of this dimension (negative counts from the end):
   * [floor(L*r/n), floor(L*(r+1)/n)) of its length L. Where ranks share no memory nothing else is brought. Left out:
   * all of every tensor. The same on every rank.
   */
  readonly dim?: number | undefined;
}
