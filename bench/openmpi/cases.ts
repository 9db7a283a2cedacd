// What the bench against OpenMPI times, on both sides alike.
import type { CollectiveName } from "../collectives-program.ts";

/**
 * One timed collective. `bytes` is what one rank brings: its own part for an all-gather (every rank receives `bytes`
 * times the ranks), the whole vector for the others (a reduce-scatter leaves each rank 1 / ranks of it, an all-to-all
 * sends each peer 1 / ranks of it).
 */
export interface Case {
  readonly name: CollectiveName;
  readonly bytes: number;
  /** Calls in all, spread over {@link BATCHES} batches. */
  readonly rounds: number;
}

/** Both sides time this many batches of calls, fill and poison before each, and check every element after each. */
export const BATCHES = 20;

/** Median seconds of a case, of the slowest rank. */
export interface CaseTime {
  readonly name: CollectiveName;
  readonly bytes: number;
  readonly seconds: number;
}

/** What rank `rank` brings as element `index`: small integers, so that every sum is exact. Differs in every batch. */
export function brought(rank: number, index: number, batch: number): number {
  return (rank + 1) * 3 + ((index * 7 + batch) % 61);
}

export function median(samples: readonly number[]): number {
  return [...samples].sort((a, b) => a - b)[samples.length >> 1] ?? Number.NaN;
}
