import { float32Bits } from "../../webgpu/float-bits.ts";
import type { PartialAttentionArgs, PartialAttentionPlan } from "./index.ts";
import type { WorkItem } from "./work-items.ts";

/** What the kernels take for minus infinity. */
const LOWEST = -3.4028234663852886e38;

/**
 * Items, tokens, the block table's columns in use, the sinks and the scales, as the kernels read them. `tableWidth` is the unit in
 * which a token's words give the place of its row of the table.
 */
export function encodePlan(
  args: PartialAttentionArgs,
  plan: PartialAttentionPlan,
  items: readonly WorkItem[],
): { words: Uint32Array; tokensAt: number; tableAt: number; tableWidth: number; sinksAt: number; scalesAt: number } {
  const { blockTable } = args;
  const [batch = 0] = blockTable.shape;
  const [rowStride = 0, columnStride = 0] = blockTable.strides;
  // Of each sequence only the blocks that its tokens see: a batch costs what it holds, not its longest times its size.
  const rowBlocks = new Int32Array(batch);
  for (let token = 0; token < plan.tokens; token++) {
    const sequence = plan.sequences[token] ?? 0;
    const blocks = Math.ceil(Math.max(0, plan.ends[token] ?? 0) / plan.blockSize);
    rowBlocks[sequence] = Math.max(rowBlocks[sequence] ?? 0, blocks);
  }
  const rowAt = new Int32Array(batch + 1);
  for (let row = 0; row < batch; row++) rowAt[row + 1] = (rowAt[row] ?? 0) + (rowBlocks[row] ?? 0);
  const tokensAt = items.length * 4;
  const tableAt = tokensAt + plan.tokens * 3;
  const sinksAt = tableAt + (rowAt[batch] ?? 0);
  const scalesAt = sinksAt + (plan.sinks?.length ?? 0);
  const scales = [...(plan.keyScales ?? []), ...(plan.valueScales ?? [])];
  const words = new Uint32Array(scalesAt + scales.length);
  for (const [index, item] of items.entries()) {
    words.set([item.firstToken, item.tokens, item.start, item.end], index * 4);
  }
  for (let token = 0; token < plan.tokens; token++) {
    words[tokensAt + token * 3] = rowAt[plan.sequences[token] ?? 0] ?? 0;
    words[tokensAt + token * 3 + 1] = plan.starts[token] ?? 0;
    words[tokensAt + token * 3 + 2] = plan.ends[token] ?? 0;
  }
  const blocks = blockTable.elements;
  for (let row = 0; row < batch; row++) {
    for (let column = 0; column < (rowBlocks[row] ?? 0); column++) {
      words[tableAt + (rowAt[row] ?? 0) + column] = blocks[row * rowStride + column * columnStride] ?? 0;
    }
  }
  for (const [head, sink] of (plan.sinks ?? []).entries()) {
    words[sinksAt + head] = float32Bits(Math.max(sink * Math.LOG2E, LOWEST));
  }
  const worth = args.keyCache.dtype === "f8e4m3" ? 256 : 1;
  for (const [index, scale] of scales.entries()) words[scalesAt + index] = float32Bits(scale * worth);
  return { words, tokensAt, tableAt, tableWidth: 1, sinksAt, scalesAt };
}
