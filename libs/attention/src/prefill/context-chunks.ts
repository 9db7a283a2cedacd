/** Positions [first, first + count) of an item's sequence, and the block of the workspace at which they begin. */
export interface ContextSegment {
  /** Place of the sequence in the step. */
  readonly item: number;
  readonly first: number;
  readonly count: number;
  readonly firstBlock: number;
}

/** What a step needs of one sequence's context: positions [first, end). */
export interface ContextRange {
  readonly first: number;
  readonly end: number;
}

/**
 * Cuts the contexts of a step into chunks that each fit a workspace of `blocks` blocks of `blockSize` tokens, sequence
 * after sequence; every segment begins at a block, and ends at a multiple of `border` positions or with its range. The
 * number of chunks follows the tokens there are, not the longest sequence. It depends on global lengths alone, so every
 * rank cuts alike, whatever it holds.
 *
 * @param border at most the tokens of the workspace
 */
export function contextChunks(
  ranges: readonly ContextRange[],
  blocks: number,
  blockSize: number,
  border: number,
): (readonly ContextSegment[])[] {
  const chunks: ContextSegment[][] = [];
  let used = blocks;
  for (const [item, { first: start, end }] of ranges.entries()) {
    for (let first = start; first < end; ) {
      const room = (blocks - used) * blockSize;
      const count = end - first <= room ? end - first : Math.floor((first + room) / border) * border - first;
      if (count <= 0) {
        chunks.push([]);
        used = 0;
        continue;
      }
      chunks.at(-1)?.push({ item, first, count, firstBlock: used });
      used += Math.ceil(count / blockSize);
      first += count;
    }
  }
  return chunks;
}
