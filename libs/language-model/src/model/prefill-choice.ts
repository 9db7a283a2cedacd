import { DTYPE_BYTES, type DType } from "@lockstep/tensor";

/** What decides how much a step moves between the ranks of a DCP group, for each of its tokens and of its context's. */
export interface ExchangedRows {
  /** Ranks over which tokens are sharded. */
  readonly ranks: number;
  /** Query heads of the group, and the KV heads that they read. */
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly kvDtype: DType;
}

/**
 * Whether a step of some tokens of a prompt had better gather its queries and combine partial outputs, as decoding does,
 * than gather the keys and values of its context. By the elements that move, which are of one size: a query and its
 * output in f32 for every token and query head, a key and a value for every token of the context and KV head. Both give
 * the same bits on backends whose rows do not depend on their batch.
 *
 * @param tokens of the step
 * @param context tokens of the context, those of the step included
 */
export function movesQueries(
  tokens: number,
  context: number,
  { ranks, queryHeads, kvHeads, kvDtype }: ExchangedRows,
): boolean {
  return ranks === 1 || tokens * queryHeads * DTYPE_BYTES.f32 < context * kvHeads * DTYPE_BYTES[kvDtype];
}
