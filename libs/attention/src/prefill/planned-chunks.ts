import { type KvShard, localLength } from "@lockstep/kernels";
import type { StepPlan } from "../kv/step-plan.ts";
import type { CacheShape, ResolvedOptions } from "../options/resolved-options.ts";
import { type ContextRange, type ContextSegment, contextChunks } from "./context-chunks.ts";
import type { PrefillPlan } from "./prefill-plan.ts";

/** What one shard holds of a segment: local indexes [first, first + count), from row `at` of its rows of the chunk. */
export interface ShardRows {
  readonly first: number;
  readonly count: number;
  readonly at: number;
}

/** A segment, and who sees it. */
export interface PlannedSegment extends ContextSegment {
  /** Where its sequence's range begins, or ends. */
  readonly isFirst: boolean;
  readonly isLast: boolean;
  /** This rank's tokens [from, to) are of its sequence. */
  readonly from: number;
  readonly to: number;
  /** Of each shard. */
  readonly shards: readonly ShardRows[];
}

/** One chunk of the contexts of a prefill step: the same on every rank, but for the slots and tokens of its own. */
export interface PlannedChunk {
  readonly segments: readonly PlannedSegment[];
  /** Slots of the rows that this rank contributes: those of its shard, segment after segment. */
  readonly ownSlots: Int32Array;
  /** Rows that each shard contributes. */
  readonly shardRows: readonly number[];
}

/** How large chunks may be, and where they may end. */
export interface ChunkLimits {
  /** Blocks of the workspace that holds one. */
  readonly blocks: number;
  /** Positions at whose multiples contexts are cut. */
  readonly border: number;
}

/** Blocks of a workspace that holds chunks of `chunkTokens`, rounded up to whole borders and then to whole blocks. */
export function workspaceBlocks(cache: CacheShape, chunkTokens: number, border: number): number {
  return Math.ceil((Math.ceil(chunkTokens / border) * border) / cache.blockSize);
}

/** The chunks of a prefill step's contexts, for the layers of a window. */
export function plannedChunks(
  plan: PrefillPlan,
  options: ResolvedOptions,
  { blocks, border }: ChunkLimits,
  window: number | undefined,
): PlannedChunk[] {
  const { groups, cache } = options;
  const { shard } = groups;
  const ranges = contextRanges(plan.step, window, border);
  const rows = rowRanges(plan, ranges.length);
  return contextChunks(ranges, blocks, cache.blockSize, border).map((cut) => {
    const shardRows = Array.from({ length: shard.count }, () => 0);
    const segments = cut.map((segment): PlannedSegment => {
      const { item, first, count } = segment;
      const range = ranges[item];
      const { from, to } = rows[item] ?? { from: 0, to: 0 };
      const shards = shardRows.map((at, index) => {
        const rowsOf = { ...shard, index };
        const local = localLength(rowsOf, first);
        const held = { first: local, count: localLength(rowsOf, first + count) - local, at };
        shardRows[index] = at + held.count;
        return held;
      });
      return { ...segment, isFirst: first === range?.first, isLast: first + count === range?.end, from, to, shards };
    });
    return { segments, ownSlots: slotsOf(segments, plan.step, shard, cache.own.blockSize), shardRows };
  });
}

/** What the new tokens of each sequence of a step see between them, from a border on. */
function contextRanges(step: StepPlan, window: number | undefined, border: number): ContextRange[] {
  const ranges = Array.from({ length: step.blockTable.dim(0) }, () => ({ first: 0, end: 0 }));
  for (let query = 0; query < step.queries; query++) {
    const range = ranges[step.sequences[query] ?? -1];
    const position = step.positions[query] ?? -1;
    if (range === undefined) continue;
    if (range.end === 0 && window !== undefined) {
      const first = Math.max(0, position - window + 1);
      range.first = first - (first % border);
    }
    range.end = position + 1;
  }
  return ranges;
}

/** Which of this rank's tokens are of each of so many sequences. */
function rowRanges({ sequences }: PrefillPlan, items: number): { readonly from: number; readonly to: number }[] {
  let at = 0;
  return Array.from({ length: items }, (_, item) => {
    const from = at;
    while (at < sequences.length && sequences[at] === item) at++;
    return { from, to: at };
  });
}

function slotsOf(
  segments: readonly PlannedSegment[],
  { blockTable }: StepPlan,
  shard: KvShard,
  blockSize: number,
): Int32Array {
  const slots: number[] = [];
  const table = blockTable.i32;
  const width = blockTable.dim(1);
  for (const { item, shards } of segments) {
    const { first = 0, count = 0 } = shards[shard.index] ?? {};
    for (let local = first; local < first + count; local++) {
      const block = table[item * width + Math.floor(local / blockSize)] ?? 0;
      slots.push(block * blockSize + (local % blockSize));
    }
  }
  return Int32Array.from(slots);
}
