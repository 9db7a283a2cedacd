import { type KvShard, kvSlot, type PagedCacheSize, SlotPlan } from "@lockstep/kernels";
import { type Allocator, ArgumentError, describe, Tensor } from "@lockstep/tensor";
import type { BlockManager } from "./block-manager.ts";

/** What one sequence does in a step. */
export interface StepItem {
  /** Id of the sequence, as `createSequence` gave it. */
  readonly sequence: number;
  /** New tokens whose keys and values the step stores, at the end of the sequence. */
  readonly tokens: number;
  /** How many of the sequence's last positions attend (one query token each). Default: the new tokens. */
  readonly queries?: number;
}

/** Where a step's tokens go and what its queries see; the same on every layer. */
export interface StepPlan {
  /** New tokens of all items, in their order. */
  readonly tokens: number;
  /** Query tokens of all items, in their order. */
  readonly queries: number;
  /** Cache slot of each new token on this rank, or -1. */
  readonly slotMapping: Int32Array;
  /** The same, checked once for all layers. */
  readonly slotPlan: SlotPlan;
  /** Row of the block table of each query token. */
  readonly sequences: Int32Array;
  /** Global position of each query token; -1 for a query of an empty sequence. */
  readonly positions: Int32Array;
  /** Blocks of each item's sequence [items, widest], i32. */
  readonly blockTable: Tensor;
}

/** Throws ArgumentError unless every item is well formed and no sequence occurs twice. */
export function checkStepItems(items: readonly StepItem[]): void {
  if (!Array.isArray(items)) throw new ArgumentError("DcpAttention.beginStep", "items", "a list", describe(items));
  const seen = new Set<number>();
  for (const [index, item] of items.entries()) {
    if (typeof item !== "object" || item === null) {
      throw new ArgumentError("DcpAttention.beginStep", `items[${index}]`, "an object", describe(item));
    }
    const { sequence, tokens, queries = tokens } = item;
    const name = `items[${index}]`;
    if (!Number.isInteger(tokens) || tokens < 0) {
      throw new ArgumentError("DcpAttention.beginStep", `${name}.tokens`, "a non-negative integer", describe(tokens));
    }
    if (!Number.isInteger(queries) || queries < 0) {
      throw new ArgumentError("DcpAttention.beginStep", `${name}.queries`, "a non-negative integer", describe(queries));
    }
    if (seen.has(sequence)) {
      throw new ArgumentError(
        "DcpAttention.beginStep",
        `${name}.sequence`,
        "named once in a step",
        `${sequence} again`,
      );
    }
    seen.add(sequence);
  }
}

/**
 * Plans a step over sequences that have been extended by its tokens. The block table comes from `allocator`.
 * @param own what this rank stores
 */
export function planStep(
  items: readonly StepItem[],
  manager: BlockManager,
  shard: KvShard,
  own: PagedCacheSize,
  allocator: Allocator,
): StepPlan {
  const tokens = items.reduce((sum, item) => sum + item.tokens, 0);
  const queries = items.reduce((sum, item) => sum + (item.queries ?? item.tokens), 0);
  const widest = items.reduce((max, item) => Math.max(max, manager.get(item.sequence).blocks.length), 1);
  const slotMapping = new Int32Array(tokens);
  const sequences = new Int32Array(queries);
  const positions = new Int32Array(queries);
  // Not cleared: a step costs what its sequences hold, not the longest times their number.
  const blockTable = Tensor.empty(allocator, "i32", [items.length, widest]);
  const table = blockTable.i32;
  let token = 0;
  let query = 0;
  for (const [row, item] of items.entries()) {
    const { length, blocks } = manager.get(item.sequence);
    table.set(blocks, row * widest);
    for (let position = length - item.tokens; position < length; position++) {
      slotMapping[token++] = kvSlot(shard, position, own.blockSize, blocks);
    }
    const wanted = item.queries ?? item.tokens;
    for (let index = 0; index < wanted; index++) {
      sequences[query] = row;
      positions[query++] = Math.max(-1, length - wanted + index);
    }
  }
  const slotPlan = new SlotPlan(slotMapping, own);
  return { tokens, queries, slotMapping, slotPlan, sequences, positions, blockTable };
}
