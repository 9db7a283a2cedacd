import { type HeadRange, headRange, type ParallelSizes } from "@lockstep/dist-groups";
import { ArgumentError, describe } from "@lockstep/tensor";
import { expectRecord } from "./arguments/expect-argument.ts";

/** A model's heads and how they are spread. */
export interface HeadLayoutOptions {
  /** Ranks in each direction of parallelism. */
  readonly sizes: ParallelSizes;
  /**
   * Where KV heads live.
   * - `replicated`: every rank stores its tokens for all KV heads; always so for MLA
   * - `head-sharded`: every rank stores the KV heads that its own query heads read, which must be the same ones on all
   *   ranks of a DCP group
   */
  readonly kv: "head-sharded" | "replicated";
  /** Query heads of the model. */
  readonly queryHeads: number;
  /** KV heads of the model. */
  readonly kvHeads: number;
}

/** Which heads one rank computes, gathers and stores: what {@link DcpAttentionOptions} asks for. */
export interface HeadLayout {
  /** Query heads that this rank brings, and whose attention it gets. */
  readonly ownQueryHeads: HeadRange;
  /** Query heads of its query group, which it attends for. */
  readonly groupQueryHeads: HeadRange;
  /** KV heads that it stores. */
  readonly kvHeads: HeadRange;
  /** How the group's query heads share the stored KV heads. */
  readonly headGroup: { readonly size: number; readonly offset: number };
}

const NAME = "headLayout";

/**
 * The heads of a rank. Query heads are split by the chunk rule over query groups, then over each group's ranks, so that
 * 3 ranks serve 8 heads.
 * @param rank global rank
 * @throws ArgumentError for query heads that are no multiple of the KV heads; for head-sharded KV when ranks of a DCP
 *   group would read different KV heads: unless no two TP ranks share a KV cache, kvHeads must divide tp, and dcp
 *   divide tp / kvHeads
 */
export function headLayout(options: HeadLayoutOptions, rank: number): HeadLayout {
  expectRecord(NAME, "options", options);
  const { sizes, kv, queryHeads, kvHeads } = options;
  expectRecord(NAME, "sizes", sizes);
  if (kv !== "head-sharded" && kv !== "replicated") {
    throw new ArgumentError(NAME, "kv", '"head-sharded" or "replicated"', describe(kv));
  }
  const { layout, pcp = 1, tp, dcp } = sizes;
  for (const [name, value] of Object.entries({ queryHeads, kvHeads })) {
    if (!Number.isInteger(value) || value < 1)
      throw new ArgumentError(NAME, name, "a positive integer", describe(value));
  }
  if (queryHeads % kvHeads !== 0) {
    throw new ArgumentError(NAME, "queryHeads", `a multiple of kvHeads = ${kvHeads}`, describe(queryHeads));
  }
  for (const [name, value] of Object.entries({ pcp, tp, dcp })) {
    if (!Number.isInteger(value) || value < 1)
      throw new ArgumentError(NAME, name, "a positive integer", describe(value));
  }
  if (!Number.isInteger(rank) || rank < 0) {
    throw new ArgumentError(NAME, "rank", "a non-negative integer", describe(rank));
  }
  // TP ranks among which a KV cache, and the query heads that read it, are split.
  const sharers = layout === "classic" ? dcp : dcp === tp * pcp ? tp : 1;
  if (kv === "head-sharded") checkHeadSharded(tp, dcp, kvHeads, sharers);
  const tpRank = rank % tp;
  const group = headRange(queryHeads, Math.floor(tpRank / sharers), tp / sharers);
  const own = headRange(group.count, tpRank % sharers, sharers);
  const size = queryHeads / kvHeads;
  const first = kv === "replicated" ? 0 : Math.floor(group.start / size);
  const end = kv === "replicated" ? kvHeads : Math.ceil(group.end / size);
  return {
    ownQueryHeads: { start: group.start + own.start, end: group.start + own.end, count: own.count },
    groupQueryHeads: group,
    kvHeads: { start: first, end, count: end - first },
    headGroup: { size, offset: group.start - first * size },
  };
}

function checkHeadSharded(tp: number, dcp: number, kvHeads: number, sharers: number): void {
  if (sharers === 1 && (kvHeads % tp === 0 || tp % kvHeads === 0)) return;
  const advice = "Store all KV heads on every rank (replicated) to shard further.";
  if (tp % kvHeads !== 0) {
    const expected = `a divisor of tp = ${tp} for head-sharded KV`;
    throw new ArgumentError(NAME, "kvHeads", expected, describe(kvHeads), advice);
  }
  if ((tp / kvHeads) % sharers === 0) return;
  const expected = `such that the TP ranks of a DCP group divide tp / kvHeads = ${tp / kvHeads} for head-sharded KV`;
  throw new ArgumentError(NAME, "dcp", expected, `${dcp} with tp ${tp} and ${kvHeads} KV heads`, advice);
}
