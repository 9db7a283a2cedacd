import type { StepPlan } from "../kv/step-plan.ts";

/** Where a step is cut in two. */
export interface StepCut {
  /** The first query token of the second half, 1 to queries - 1. */
  readonly first: number;
  /** It lies between two sequences, and neither half attends to more than three times as many positions. */
  readonly isEven: boolean;
  /** Positions that all query tokens see together, without windows. */
  readonly positions: number;
}

/**
 * Where a step is cut in two; undefined for a step of fewer than two query tokens. Between sequences where there are
 * several, so that the halves attend to about as many positions; else in the middle of the only one's queries.
 * Positions are those of the whole context, so all ranks cut alike.
 */
export function stepCut({
  queries,
  sequences,
  positions,
}: Pick<StepPlan, "queries" | "sequences" | "positions">): StepCut | undefined {
  if (queries < 2) return undefined;
  let total = 0;
  // A query of an empty sequence, at position -1, costs something too.
  for (let query = 0; query < queries; query++) total += (positions[query] ?? 0) + 2;
  let before = 0;
  let first: number | undefined;
  let leastOff = Number.POSITIVE_INFINITY;
  for (let query = 1; query < queries; query++) {
    before += (positions[query - 1] ?? 0) + 2;
    if (sequences[query] === sequences[query - 1]) continue;
    const off = Math.abs(2 * before - total);
    if (off >= leastOff) continue;
    leastOff = off;
    first = query;
  }
  return { first: first ?? queries >> 1, isEven: 2 * leastOff <= total, positions: total };
}
