import { ArgumentError, describe } from "@lockstep/tensor";

/** {@link chunkStart} of numbers that are known to be right. */
export function firstOfChunk(length: number, part: number, parts: number): number {
  return Math.floor((length * part) / parts);
}

/**
 * First index of chunk `part` when `length` items are split over `parts`: floor(length * part / parts). Chunk `part` is
 * [chunkStart(length, part, parts), chunkStart(length, part + 1, parts)). Chunks differ in size by at most one, need no
 * divisibility, and together cover every item once. `part` is from 0 to `parts`, where the last chunk ends.
 */
export function chunkStart(length: number, part: number, parts: number): number {
  if (!Number.isInteger(parts) || parts < 1) {
    throw new ArgumentError("chunkStart", "parts", "a positive integer", describe(parts));
  }
  if (!Number.isInteger(length) || length < 0 || !Number.isSafeInteger(length * parts)) {
    throw new ArgumentError("chunkStart", "length", "a non-negative integer, parts times below 2^53", describe(length));
  }
  if (!Number.isInteger(part) || part < 0 || part > parts) {
    throw new ArgumentError("chunkStart", "part", `an integer from 0 to ${parts}`, describe(part));
  }
  return firstOfChunk(length, part, parts);
}

/** The heads that a rank of a group owns. */
export interface HeadRange {
  /** The first. */
  readonly start: number;
  /** One past the last. */
  readonly end: number;
  /** How many. */
  readonly count: number;
}

/**
 * The chunk of `heads` that rank `rank` of a group of `size` ranks owns: [floor(heads * rank / size),
 * floor(heads * (rank + 1) / size)). `heads` need not be divisible by `size`; a chunk may be empty.
 */
export function headRange(heads: number, rank: number, size: number): HeadRange {
  if (!Number.isInteger(size) || size < 1) {
    throw new ArgumentError("headRange", "size", "a positive integer", describe(size));
  }
  if (!Number.isInteger(heads) || heads < 0 || !Number.isSafeInteger(heads * size)) {
    throw new ArgumentError("headRange", "heads", "a non-negative integer, size times below 2^53", describe(heads));
  }
  if (!Number.isInteger(rank) || rank < 0 || rank >= size) {
    throw new ArgumentError("headRange", "rank", `an integer from 0 to ${size - 1}`, describe(rank));
  }
  const start = firstOfChunk(heads, rank, size);
  const end = firstOfChunk(heads, rank + 1, size);
  return { start, end, count: end - start };
}
