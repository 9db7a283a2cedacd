// What the host of the interleaving test and its ranks tell each other.

import type { PrimitiveMutation, RunStatistics } from "./scheduled-atomics.ts";

/** What is broken on purpose. */
export type Mutation = PrimitiveMutation | "nobody acknowledges" | "slots do not alternate";

/**
 * What goes wrong in a run: nothing, or one rank that throws, aborts the group, or does not come, at some collective.
 */
export const FAULT_KINDS = ["throws", "aborts", "does not come"] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface RankJob {
  readonly memory: WebAssembly.Memory;
  readonly kernels: WebAssembly.Module;
  readonly control: SharedArrayBuffer;
  readonly rank: number;
  readonly size: number;
  readonly statusOffset: number;
  readonly blockOffset: number;
  readonly heapOffset: number;
  readonly heapBytes: number;
  readonly firstSeed: number;
  readonly runs: number;
  readonly withFaults: boolean;
  readonly mutation: Mutation;
}

/** What a rank saw. Runs that were as they must be are only counted. */
export interface RankReport {
  readonly wrong: readonly string[];
  /** Of the runs that this rank ended. */
  readonly statistics: readonly (RunStatistics & { readonly seed: number })[];
  readonly failuresSeen: number;
}

export const STAGING_BYTES = 2048;
