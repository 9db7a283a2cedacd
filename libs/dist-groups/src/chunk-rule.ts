import { ArgumentError } from "@lockstep/tensor";

/**
 * First index of chunk `part` when `length` items are split over `parts`: floor(length * part / parts). Chunk `part` is
 * [chunkStart(length, part, parts), chunkStart(length, part + 1, parts)). Chunks differ in size by at most one, need no
 * divisibility, and together cover every item once.
 */
export function chunkStart(length: number, part: number, parts: number): number {
  return Math.floor((length * part) / parts);
}

/** The heads that a rank of a group owns. */
export interface HeadRange {
  readonly start: number;
  /** One past the last. */
  readonly end: number;
  readonly count: number;
}

/**
 * The chunk of `heads` that rank `rank` of a group of `size` ranks owns: [floor(heads * rank / size),
 * floor(heads * (rank + 1) / size)). `heads` need not be divisible by `size`; a chunk may be empty.
 */
export function headRange(heads: number, rank: number, size: number): HeadRange {
  if (!Number.isInteger(heads) || heads < 0) {
    throw new ArgumentError("headRange", "heads", "a non-negative integer", String(heads));
  }
  if (!Number.isInteger(size) || size < 1) {
    throw new ArgumentError("headRange", "size", "a positive integer", String(size));
  }
  if (!Number.isInteger(rank) || rank < 0 || rank >= size) {
    throw new ArgumentError("headRange", "rank", `an integer from 0 to ${size - 1}`, String(rank));
  }
  const start = chunkStart(heads, rank, size);
  const end = chunkStart(heads, rank + 1, size);
  return { start, end, count: end - start };
}
