import type { CompiledKernel } from "../../webgpu/compiled-kernel.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import type { Region } from "../../webgpu/region.ts";
import { attendSplits } from "./attend-splits.ts";
import { attentionKernel } from "./attention-kernel.ts";
import type { AttentionOperandRegions } from "./attention-regions.ts";
import type { PartialAttentionArgs, PartialAttentionPlan } from "./index.ts";
import {
  attentionKernelShape,
  averageKeys,
  keysPerSplit,
  lanesAndRows,
  WORKGROUPS_WANTED,
  WORKGROUPS_WANTED_F32,
} from "./kernel-shape.ts";
import { kvChunkShape } from "./kv-operand.ts";
import { chooseMatrixAttention, type MatrixAttention, matrixAttentionKernel } from "./matrix-attention.ts";
import { MERGE_PARAMS, mergeBlocks, mergeKernel, mergeShape } from "./merge-splits.ts";
import { layerWords, type StepWords, stepWords } from "./plan-words.ts";

/** Memory for the partial results of all splits, every token having as many as the longest. */
const MOST_SPLIT_BYTES = 1 << 27;

/**
 * Attention in the shape that is fastest for this step: matrix units where they pay, workgroups of as many rows as
 * there are, and as many splits as fill the GPU. A row's bits follow from the whole step.
 */
export function recordFastestAttention(
  recorder: Recorder,
  args: PartialAttentionArgs,
  plan: PartialAttentionPlan,
  operands: AttentionOperandRegions,
): void {
  const { tokens, queryHeads, kvHeads, keyDim, valueDim } = plan;
  const { kvDType, queryDType, queryUnit, headsTogether, scales } = operands;
  const chunk = kvChunkShape(kvDType, [keyDim, valueDim, ...operands.rowPlaces]);
  const tableKeys = plan.table.columns * plan.blockSize;
  const matrices = chunk.aligned ? matricesFor(recorder, plan, operands, tokens * kvHeads * tableKeys) : undefined;
  const { lanes, mostRows } =
    matrices === undefined
      ? lanesAndRows(recorder.gpu, keyDim, valueDim, chunk)
      : { lanes: 1, mostRows: matrices.mostRows };

  const step = stepWords(plan, matrices === undefined ? Math.max(1, Math.floor(mostRows / headsTogether)) : 1);
  const itemTokens = step.items.reduce((most, item) => Math.max(most, item.tokens), 1);
  const rowGroups = Math.ceil((headsTogether * itemTokens) / mostRows);
  const rows = Math.ceil((headsTogether * itemTokens) / rowGroups);
  const workgroupsPerSplit = step.items.length * kvHeads * rowGroups;
  const vectorWanted = kvDType === "f32" ? WORKGROUPS_WANTED_F32 : WORKGROUPS_WANTED;
  const workgroupsWanted = matrices?.workgroupsWanted ?? vectorWanted;
  const { splitKeys, splits } = splitsOf(plan, step, workgroupsPerSplit, workgroupsWanted, matrices);
  const merging = mergeShape(recorder, workgroupsWanted / workgroupsPerSplit);

  const threads = attentionKernelShape(recorder.gpu, lanes, rows, keyDim, valueDim, chunk);
  const rowScales = scales.length > 0;
  const problem = { plan, queryDType, queryUnit, kvDType, chunk, rowScales, threads, severalTokens: itemTokens > 1 };
  const kernel = (split: boolean): CompiledKernel =>
    matrices === undefined
      ? attentionKernel(recorder, problem, split)
      : matrixAttentionKernel(recorder, matrices, split);
  const attend = kernel(splits > 1);
  // Compiled before they are needed: a growing context must not stall when it gets its second split.
  if (splits === 1 && tableKeys > splitKeys) {
    kernel(true);
    mergeKernel(recorder, plan, merging);
  }

  const words = layerWords(args.keyCache.dtype, plan, step);
  const isShared = plan.planned !== undefined && words.words === step.words;
  const planned = { ...words, region: isShared ? recorder.sharedWords(step.words) : recorder.words(words.words) };
  const outRegion = recorder.write(args.out);
  const lseRegion = recorder.write(args.lse);
  const partialRows = tokens * queryHeads * splits;
  const sums = splits > 1 ? recorder.scratch(partialRows * valueDim * 4) : outRegion;
  const states = splits > 1 ? recorder.scratch(partialRows * 8) : lseRegion;
  const grid = { step, chunk, rowGroups, splitKeys: splits > 1 ? splitKeys : 0 };
  const results = { sums, states, outFirst: outRegion.first, lseFirst: lseRegion.first };
  attendSplits(recorder, attend, plan, operands, planned, grid, { first: 0, count: splits }, results);
  if (splits === 1) return;
  const mergeWorkgroups = tokens * queryHeads * mergeBlocks(merging, valueDim);
  const mergeParams = recorder.uniform(
    MERGE_PARAMS.pack({
      workgroups: mergeWorkgroups,
      splits,
      splitKeys,
      queryHeads,
      tokensAt: step.tokensAt,
      outFirst: outRegion.first,
      lseFirst: lseRegion.first,
      sinksAt: planned.sinksAt,
    }),
  );
  const mergeRegions = [mergeParams, planned.region, sums, states, outRegion, lseRegion];
  recorder.dispatch(mergeKernel(recorder, plan, merging), mergeRegions, mergeWorkgroups);
}

/** The matrix kernel for caches of f16 in aligned memory, where there is one and it pays. */
function matricesFor(
  recorder: Recorder,
  plan: PartialAttentionPlan,
  { keys, values, queryDType, queryUnit, kvDType, headsTogether }: AttentionOperandRegions,
  keysInAll: number,
): MatrixAttention | undefined {
  if (kvDType !== "f16" || queryDType === "f8e4m3") return undefined;
  const { keyDim, valueDim, blockSize, softcap, sinks } = plan;
  return chooseMatrixAttention(
    recorder.gpu,
    {
      keyDim,
      valueDim,
      heads: headsTogether,
      sharedValues: valueDim <= keyDim && sameMemory(keys, values),
      queryDType,
      queryUnit,
      blockSize,
      softcap: softcap !== 0,
      sinks: sinks !== undefined,
    },
    keysInAll,
  );
}

/** True when rows of values are the first columns of the rows of keys. */
function sameMemory(keys: Region, values: Region): boolean {
  const place = ({ home, offset, first, strides }: Region): unknown[] => [offset, first, ...strides.slice(0, 3), home];
  const other = place(values);
  return typeof keys.home !== "string" && place(keys).every((part, index) => part === other[index]);
}

/** As many splits as there is room for on the GPU and in memory. */
function splitsOf(
  { tokens, queryHeads, valueDim }: PartialAttentionPlan,
  { items }: StepWords,
  workgroupsPerSplit: number,
  workgroupsWanted: number,
  matrices: MatrixAttention | undefined,
): { readonly splitKeys: number; readonly splits: number } {
  const longest = items.reduce((most, item) => Math.max(most, item.end), 0);
  const splitBytes = tokens * queryHeads * (valueDim + 2) * 4;
  const splitKeys = keysPerSplit(
    workgroupsPerSplit,
    averageKeys(items),
    longest,
    Math.max(1, Math.floor(MOST_SPLIT_BYTES / splitBytes)),
    workgroupsWanted,
    matrices?.shape.keys,
  );
  return { splitKeys, splits: Math.max(1, Math.ceil(longest / splitKeys)) };
}
