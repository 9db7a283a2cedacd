// How ranks of prefill context parallelism share the new tokens of a chunk.

/**
 * The PCP rank that computes a token, the `index`-th of `count` new ones: they are cut into 2 * size parts of equal
 * length, but for the last ones, and rank r has the r-th and the r-th from the end, so that causal attention costs all
 * ranks about the same.
 */
export function headTailRank(index: number, count: number, size: number): number {
  const part = Math.floor(index / Math.ceil(count / (2 * size)));
  return Math.min(part, 2 * size - 1 - part);
}
