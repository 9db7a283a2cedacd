// Which KV heads of a rank come from which other ranks, or from what they saved.
import type { Range } from "../model/tensor-parallel.ts";

/** KV heads that a rank stores of its shard of every context. */
export interface StoredHeads {
  readonly shard: number;
  readonly heads: Range;
}

/** KV heads that one source has for a rank: `count` of them, from one on in the source, and from one on in the rank. */
export interface HeadRun {
  /** Its place among the sources. */
  readonly source: number;
  readonly inSource: number;
  readonly inRank: number;
  readonly count: number;
}

/**
 * Where a rank finds its KV heads of one shard: in the first source that has them.
 * @returns runs in the order of the rank's heads; or the head that no source has
 */
export function headRuns(sources: readonly StoredHeads[], shard: number, wanted: Range): readonly HeadRun[] | number {
  const runs: HeadRun[] = [];
  for (let head = wanted.start; head < wanted.end; ) {
    const source = sources.findIndex((its) => its.shard === shard && head >= its.heads.start && head < its.heads.end);
    const heads = sources[source]?.heads;
    if (heads === undefined) return head;
    const end = Math.min(wanted.end, heads.end);
    runs.push({ source, inSource: head - heads.start, inRank: head - wanted.start, count: end - head });
    head = end;
  }
  return runs;
}
