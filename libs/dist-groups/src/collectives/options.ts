import type { Tensor } from "@lockstep/tensor";
import type { Determinism, Reduction } from "../wire/collective-header.ts";

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

/** Options of `allGather`. */
export interface GatherOptions extends DimOptions {
  /**
   * Called once, where chunks are too large to be staged, instead of writing the output: with every rank's chunk where
   * it lies, in rank order, this rank's included. For who brings them elsewhere, so that each byte is copied once.
   * Nobody may use the views after it; it must be synchronous. Not called otherwise: then the output has been written.
   * A rank's own choice: peers need not give it.
   */
  readonly read?: ((chunks: readonly Tensor[]) => void) | undefined;
}

/** Options of collectives that reduce. Default `sum`. */
export interface ReductionOptions extends CollectiveOptions {
  /** How elements become one. */
  readonly op?: Reduction | undefined;
  /**
   * What a sum of f32, f16 or bf16 depends on; the same on every rank. Default `rank-order`: ((x0 + x1) + x2) + ... in
   * the order of the group, in f32, rounded once. `world-invariant`: on the addends alone, not on the number or order
   * of the ranks, nor on how many of them bring zeros. Then a sum of f16 is the exact one, rounded once; of f32 and bf16
   * each addend is rounded to multiples of 2^-44 times the largest magnitude's power of two, the sum of these is exact,
   * and it is rounded once. A sum that is 0 is +0. Sums of integers, and `max` and `min`, do not depend on an order.
   */
  readonly deterministic?: Determinism | undefined;
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
