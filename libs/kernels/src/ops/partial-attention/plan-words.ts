import type { DType } from "@lockstep/tensor";
import { float32Bits } from "../../webgpu/float-bits.ts";
import type { AttentionPlan } from "./attention-plan.ts";
import type { AttentionInputPlan } from "./attention-inputs.ts";
import { type WorkItem, workItems } from "./work-items.ts";

/** What the kernels take for minus infinity. */
const LOWEST = -3.4028234663852886e38;

/** Items, tokens and the block table's columns in use, as the kernels read them. They are the same on every layer. */
export interface StepWords {
  readonly items: readonly WorkItem[];
  readonly words: Uint32Array;
  readonly tokensAt: number;
  readonly tableAt: number;
}

/** By plan and the most tokens of an item. */
const PLANNED = new WeakMap<AttentionPlan, Map<number, StepWords>>();

/** The words of a step whose items have at most `mostTokens`; those of a step that was planned are kept. */
export function stepWords(plan: AttentionInputPlan, mostTokens: number): StepWords {
  const { planned } = plan;
  if (planned === undefined) return encodeStep(plan, workItems(plan, mostTokens));
  let known = PLANNED.get(planned);
  if (known === undefined) {
    known = new Map();
    PLANNED.set(planned, known);
  }
  let words = known.get(mostTokens);
  if (words === undefined) {
    words = encodeStep(plan, workItems(plan, mostTokens));
    known.set(mostTokens, words);
  }
  return words;
}

/** A token's words give the place of its row of the table in single entries. */
export const TABLE_WIDTH = 1;

function encodeStep(plan: AttentionInputPlan, items: readonly WorkItem[]): StepWords {
  const { rows, elements, rowStride, columnStride } = plan.table;
  // Of each sequence only the blocks that its tokens see: a batch costs what it holds, not its longest times its size.
  const rowBlocks = new Int32Array(rows);
  for (let token = 0; token < plan.tokens; token++) {
    const sequence = plan.sequences[token] ?? 0;
    const blocks = Math.ceil(Math.max(0, plan.ends[token] ?? 0) / plan.blockSize);
    rowBlocks[sequence] = Math.max(rowBlocks[sequence] ?? 0, blocks);
  }
  const rowAt = new Int32Array(rows + 1);
  for (let row = 0; row < rows; row++) rowAt[row + 1] = (rowAt[row] ?? 0) + (rowBlocks[row] ?? 0);
  const tokensAt = items.length * 4;
  const tableAt = tokensAt + plan.tokens * 3;
  const words = new Uint32Array(tableAt + (rowAt[rows] ?? 0));
  for (const [index, item] of items.entries()) {
    words.set([item.firstToken, item.tokens, item.start, item.end], index * 4);
  }
  for (let token = 0; token < plan.tokens; token++) {
    words[tokensAt + token * 3] = rowAt[plan.sequences[token] ?? 0] ?? 0;
    words[tokensAt + token * 3 + 1] = plan.starts[token] ?? 0;
    words[tokensAt + token * 3 + 2] = plan.ends[token] ?? 0;
  }
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < (rowBlocks[row] ?? 0); column++) {
      words[tableAt + (rowAt[row] ?? 0) + column] = elements[row * rowStride + column * columnStride] ?? 0;
    }
  }
  return { items, words, tokensAt, tableAt };
}

/** The step's words, the sinks and the scales of a layer behind them, and where those begin. */
export function layerWords(
  kvDtype: DType,
  plan: AttentionInputPlan,
  { words: step }: StepWords,
): { words: Uint32Array; sinksAt: number; scalesAt: number } {
  const { sinks, keyScales, valueScales } = plan;
  const sinksAt = step.length;
  const scalesAt = sinksAt + (sinks?.length ?? 0);
  const scales = [...(keyScales ?? []), ...(valueScales ?? [])];
  if (scalesAt + scales.length === sinksAt) return { words: step, sinksAt, scalesAt };
  const words = new Uint32Array(scalesAt + scales.length);
  words.set(step);
  for (const [head, sink] of (sinks ?? []).entries()) {
    words[sinksAt + head] = float32Bits(Math.max(sink * Math.LOG2E, LOWEST));
  }
  const worth = kvDtype === "f8e4m3" ? 256 : 1;
  for (const [index, scale] of scales.entries()) words[scalesAt + index] = float32Bits(scale * worth);
  return { words, sinksAt, scalesAt };
}
