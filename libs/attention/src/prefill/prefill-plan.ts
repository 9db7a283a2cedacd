import {
  type AttentionPlan,
  globalPosition,
  type KvSegment,
  type KvShard,
  localLength,
  type PagedCacheSize,
  SlotPlan,
} from "@lockstep/kernels";
import { type Allocator, Tensor } from "@lockstep/tensor";
import type { StepPlan } from "../kv/step-plan.ts";
import { type ContextRange, type ContextSegment, contextChunks } from "./context-chunks.ts";
import { pcpRows } from "./pcp-rows.ts";

/** What a prefill step stores and asks on this rank; the same on every layer. */
export interface PrefillPlan {
  /** The whole step: all new tokens, their slots on this rank, block tables. */
  readonly step: StepPlan;
  /** Which of the step's tokens each PCP rank brings, as indexes into the step's. */
  readonly rowsOf: readonly Int32Array[];
  /** Slots of these tokens on this rank, of each PCP rank's, checked once for all layers. */
  readonly slotPlans: readonly SlotPlan[];
  /** This rank's: its tokens are the rows of its queries, keys and values. */
  readonly rows: Int32Array;
  /** Place in the step of the sequence of each of this rank's tokens, and the token's global position. */
  readonly sequences: Int32Array;
  /** Global position of each of this rank's tokens within its sequence. */
  readonly positions: Int32Array;
}

/** The part of a prefill plan that this rank brings, of a PCP group in which it has place `rank`. */
export function planPrefill(
  step: StepPlan,
  tokens: readonly number[],
  rank: number,
  size: number,
  caches: PagedCacheSize,
): PrefillPlan {
  const rowsOf = pcpRows(tokens, size);
  const rows = rowsOf[rank] ?? new Int32Array();
  return {
    step,
    rowsOf,
    slotPlans: size === 1 ? [step.slotPlan] : rowsOf.map((own) => slotsOf(step, own, caches)),
    rows,
    sequences: rows.map((row) => step.sequences[row] ?? 0),
    positions: rows.map((row) => step.positions[row] ?? -1),
  };
}

function slotsOf({ slotMapping }: StepPlan, rows: Int32Array, caches: PagedCacheSize): SlotPlan {
  return new SlotPlan(
    rows.map((row) => slotMapping[row] ?? -1),
    caches,
  );
}

/** One chunk of the contexts of a prefill step, as this rank gathers it and attends to it. */
export interface PrefillChunk {
  /** Slots of the rows that this rank contributes. */
  readonly ownSlots: Int32Array;
  /** For each shard: where its rows go in the workspace. From rank-major to request-major order. */
  readonly workspaceSlots: readonly Int32Array[];
  /** This rank's tokens [from, to) belong to the chunk's sequences. */
  readonly from: number;
  readonly to: number;
  /** Of these tokens: row of the block table, and position. */
  readonly sequences: Int32Array;
  readonly positions: Int32Array;
  /** Blocks of the workspace [segments, widest], i32, and what they hold. */
  readonly blockTable: Tensor;
  readonly segments: readonly KvSegment[];
}

/** A chunk, checked once for all layers: what this rank's tokens see of it, and where the rows of each shard go. */
export interface PlannedChunk extends PrefillChunk {
  readonly plan: AttentionPlan;
  readonly slotPlans: readonly SlotPlan[];
}

/** What chunks are cut for. */
export interface ChunkOptions {
  readonly shard: KvShard;
  /** Of cache and workspace. */
  readonly blockSize: number;
  /** Blocks of the workspace. */
  readonly blocks: number;
  /** Sliding window of the layer. */
  readonly window: number | undefined;
}

/** The chunks of a prefill step's contexts. Their block tables come from `allocator`, to be freed by the caller. */
export function prefillChunks(plan: PrefillPlan, options: ChunkOptions, allocator: Allocator): PrefillChunk[] {
  const ranges = contextRanges(plan.step, options.window);
  const chunks: PrefillChunk[] = [];
  try {
    for (const segments of contextChunks(ranges, options.blocks, options.blockSize)) {
      chunks.push(prefillChunk(plan, segments, options, allocator));
    }
  } catch (error) {
    for (const { blockTable } of chunks) blockTable.free();
    throw error;
  }
  return chunks;
}

/** What the new tokens of each sequence of a step see between them. */
function contextRanges(step: StepPlan, window: number | undefined): ContextRange[] {
  const ranges = Array.from({ length: step.blockTable.dim(0) }, () => ({ first: 0, end: 0 }));
  for (let query = 0; query < step.queries; query++) {
    const range = ranges[step.sequences[query] ?? -1];
    const position = step.positions[query] ?? -1;
    if (range === undefined) continue;
    if (range.end === 0) range.first = window === undefined ? 0 : Math.max(0, position - window + 1);
    range.end = position + 1;
  }
  return ranges;
}

function prefillChunk(
  plan: PrefillPlan,
  segments: readonly ContextSegment[],
  { shard, blockSize }: ChunkOptions,
  allocator: Allocator,
): PrefillChunk {
  const { step } = plan;
  const table = step.blockTable.i32;
  const width = step.blockTable.dim(1);
  const ownSlots: number[] = [];
  const workspaceSlots = Array.from({ length: shard.count }, (_, index): Int32Array => {
    const source = { ...shard, index };
    const slots: number[] = [];
    for (const { item, first, count, firstBlock } of segments) {
      const end = localLength(source, first + count);
      for (let local = localLength(source, first); local < end; local++) {
        slots.push(firstBlock * blockSize + globalPosition(source, local) - first);
        if (index !== shard.index) continue;
        const block = table[item * width + Math.floor(local / blockSize)] ?? 0;
        ownSlots.push(block * blockSize + (local % blockSize));
      }
    }
    return Int32Array.from(slots);
  });
  const [firstItem = 0, lastItem = -1] = [segments[0]?.item, segments.at(-1)?.item];
  const from = countWhile(plan.sequences, (item) => item < firstItem);
  const to = countWhile(plan.sequences, (item) => item <= lastItem);
  const rowOfItem = new Map(segments.map(({ item }, row) => [item, row]));
  // An item between the chunk's that has no segment has no context: its tokens would see nothing.
  const sequences = plan.sequences.slice(from, to).map((item) => rowOfItem.get(item) ?? 0);
  const positions = plan.positions.slice(from, to);
  const widest = segments.reduce((most, { count }) => Math.max(most, Math.ceil(count / blockSize)), 1);
  const blockTable = Tensor.zeros(allocator, "i32", [segments.length, widest]);
  for (const [row, { count, firstBlock }] of segments.entries()) {
    for (let block = 0; block < Math.ceil(count / blockSize); block++) {
      blockTable.i32[row * widest + block] = firstBlock + block;
    }
  }
  return {
    ownSlots: Int32Array.from(ownSlots),
    workspaceSlots,
    from,
    to,
    sequences,
    positions,
    blockTable,
    segments: segments.map(({ first, count }) => ({ first, count })),
  };
}

/** How many elements at the start satisfy `holds`. */
function countWhile(values: Int32Array, holds: (value: number) => boolean): number {
  const index = values.findIndex((value) => !holds(value));
  return index === -1 ? values.length : index;
}
