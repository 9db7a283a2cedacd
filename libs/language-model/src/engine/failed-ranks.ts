/** Ranks that an error of a world blames; empty when it blames none. */
export function failedRanksOf(error: unknown): readonly number[] {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { rank, missing, failedRanks, ranks } = at as {
      rank?: unknown;
      missing?: unknown;
      failedRanks?: unknown;
      ranks?: unknown;
    };
    if (typeof rank === "number") return [rank];
    for (const list of [missing, failedRanks, ranks]) {
      if (Array.isArray(list) && list.length > 0 && list.every((each) => typeof each === "number")) return list;
    }
  }
  return [];
}
