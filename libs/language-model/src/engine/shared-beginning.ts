// How far two texts are the same.

/**
 * How many tokens two texts share from their first on, in whole blocks, if these are more than `known`; otherwise 0.
 * What is known, whole blocks too, is looked at last: texts that part in the block after it, as those of one long
 * system prompt do, are told apart by that block, so that looking at many of them takes no time.
 */
export function sharedBeyond(known: number, a: readonly number[], b: readonly number[], blockTokens: number): number {
  if (!isSame(a, b, known, known + blockTokens) || !isSame(a, b, 0, known)) return 0;
  let shared = known + blockTokens;
  while (isSame(a, b, shared, shared + blockTokens)) shared += blockTokens;
  return shared;
}

/** Whether two texts have the same tokens from one place to before another, and have these places. */
function isSame(a: readonly number[], b: readonly number[], from: number, end: number): boolean {
  if (end > a.length || end > b.length) return false;
  for (let at = from; at < end; at++) if (a[at] !== b[at]) return false;
  return true;
}
