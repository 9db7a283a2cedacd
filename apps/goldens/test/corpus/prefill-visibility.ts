// What a new token of a prefill sees, of the context before its chunk and of the chunk itself.
import type { OpParameters } from "./corpus-values.ts";
import { shareOf } from "./ownership-ops.ts";

/** A token of a chunk: the rows of queries, one after another. */
export interface NewToken {
  readonly sequence: number;
  /** Tokens of its sequence before the chunk. */
  readonly context: number;
  /** Its place in the chunk, and how long that is. */
  readonly index: number;
  readonly count: number;
}

/** [start, end) */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** The tokens of the chunks of all sequences. */
export function newTokens(lengths: ArrayLike<number>, queries: ArrayLike<number>): NewToken[] {
  return Array.from(queries).flatMap((count, sequence) => {
    const context = (lengths[sequence] ?? 0) - count;
    return Array.from({ length: count }, (_, index) => ({ sequence, context, index, count }));
  });
}

/** Each token as the one whose keys it is given: itself, or another by mistake. */
export function askedAs(tokens: readonly NewToken[], mistake?: string): NewToken[] {
  if (mistake !== "first-row-of-previous") return [...tokens];
  return tokens.map((token, row) => (token.index === 0 ? (tokens[row - 1] ?? token) : token));
}

function windowStart({ window }: OpParameters, position: number): number {
  return window === undefined ? 0 : Math.max(0, position - window + 1);
}

/** Positions within the chunk that a token sees: from the chunk's first on. */
export function seenOfChunk(parameters: OpParameters, token: NewToken, mistake?: string): Range {
  const { context, index, count } = token;
  const isWide = mistake === "window-missing";
  const start = isWide ? 0 : Math.max(0, windowStart(parameters, context + index) - context);
  if (mistake === "chunk-missing") return { start: 0, end: 0 };
  if (mistake === "chunk-not-causal") return { start, end: count };
  if (mistake === "own-key-missing") return { start, end: index };
  if (mistake === "next-key-seen") return { start, end: Math.min(index + 2, count) };
  if (mistake === "chunk-offset-missing") return { start, end: Math.max(0, index + 1 - context) };
  return { start, end: index + 1 };
}

/** Positions of the context that a token sees, cut where chunks of the context end. */
function seenOfContext(parameters: OpParameters, token: NewToken, mistake?: string): Range[] {
  const { context, index, count } = token;
  const isWide = mistake === "window-missing" || mistake === "window-in-chunk-only";
  const start = isWide ? 0 : windowStart(parameters, context + index);
  let end = context;
  if (mistake === "context-missing") end = 0;
  if (mistake === "context-causal") end = Math.max(0, context - (count - 1 - index));
  if (mistake === "chunk-seen-twice") end = context + count;
  if (mistake === "chunk-offset-missing") end = Math.min(context, index + 1);
  const { context_chunk: size = Math.max(1, end) } = parameters;
  const chunks: Range[] = [];
  for (let from = 0; from < end; from += size) {
    const to = Math.min(from + size, end);
    const last = mistake === "border-key-twice" && to < end ? to + 1 : to;
    if (last > start) chunks.push({ start: Math.max(from, start), end: last });
  }
  return mistake === "last-context-chunk-only" ? chunks.slice(-1) : chunks;
}

/** Local indexes of a rank, in ranges, that a token sees of the context. */
export function seenOnRank(parameters: OpParameters, rank: number, token: NewToken, mistake?: string): Range[] {
  const { block_size: size = 1, weights } = parameters;
  const own = size * (weights?.[rank] ?? 1);
  const chunks = seenOfContext(parameters, token, mistake);
  return chunks.map(({ start, end }, at) => {
    const first = shareOf(parameters, rank, start, mistake);
    if (mistake === "border-from-length") {
      return { start: first, end: first + shareOf(parameters, rank, end - start) };
    }
    const last = shareOf(parameters, rank, end, mistake);
    const isStale = mistake === "stale-tail" && at === chunks.length - 1 && own > 0;
    return { start: first, end: isStale ? Math.ceil(last / own) * own : last };
  });
}
