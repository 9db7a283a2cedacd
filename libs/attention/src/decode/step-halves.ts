import type { StepPlan } from "../kv/step-plan.ts";

/**
 * Where a step is cut in two: the first query token of the second half, 1 to queries - 1; undefined for a step of fewer
 * than two. Between sequences where there are several, so that the halves attend to about as many positions; else in
 * the middle of the only one's queries. Positions are those of the whole context, so all ranks cut alike.
 */
export function stepCut({
  queries,
  sequences,
  positions,
}: Pick<StepPlan, "queries" | "sequences" | "positions">): number | undefined {
  if (queries < 2) return undefined;
  let total = 0;
  // A query of an empty sequence, at position -1, costs something too.
  for (let query = 0; query < queries; query++) total += (positions[query] ?? 0) + 2;
  let before = 0;
  let cut: number | undefined;
  let leastOff = Number.POSITIVE_INFINITY;
  for (let query = 1; query < queries; query++) {
    before += (positions[query - 1] ?? 0) + 2;
    if (sequences[query] === sequences[query - 1]) continue;
    const off = Math.abs(2 * before - total);
    if (off >= leastOff) continue;
    leastOff = off;
    cut = query;
  }
  return cut ?? queries >> 1;
}
