/** Query tokens [start, end). */
export interface RowSlice {
  readonly start: number;
  readonly end: number;
}

/**
 * How steps are cut in slices, of which one is on its way while the host has another in hand. By bytes alone, and the
 * same on every rank, so that a step is always cut alike.
 *
 * A slice costs a submission, a map and a meeting of the ranks. On two H200 in two slices, steps of which a rank brings
 * down 1 to 4 MB took 1.1 to 1.6 times as long as whole, and one of 17 MB 0.96 and 1.15 times: see docs/performance.md.
 * Changed by tests alone, which cut small steps.
 */
export const SLICING = { leastBytes: 1 << 24, most: 4 };

/** Cuts `rows` query tokens, of which `bytes` are exchanged in all, in slices of about as many. */
export function rowSlices(rows: number, bytes: number): readonly RowSlice[] {
  const count = Math.max(1, Math.min(SLICING.most, rows, Math.floor(bytes / SLICING.leastBytes)));
  return Array.from({ length: count }, (_, index) => ({
    start: Math.floor((rows * index) / count),
    end: Math.floor((rows * (index + 1)) / count),
  }));
}
