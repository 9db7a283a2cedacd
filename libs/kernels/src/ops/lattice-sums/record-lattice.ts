import type { Recorder } from "../../webgpu/recorder.ts";
import type { Region } from "../../webgpu/region.ts";
import { attendSplits } from "../partial-attention/attend-splits.ts";
import type { AttentionInputPlan, AttentionInputs } from "../partial-attention/attention-inputs.ts";
import { readAttentionOperands } from "../partial-attention/attention-regions.ts";
import { averageKeys, keysPerSplit, WORKGROUPS_WANTED } from "../partial-attention/kernel-shape.ts";
import { kvChunkShapeOf } from "../partial-attention/kv-operand.ts";
import { layerWords, stepWords } from "../partial-attention/plan-words.ts";
import type { WorkItem } from "../partial-attention/work-items.ts";
import { FOLD_LATTICE_PARAMS, foldLatticeKernel } from "./fold-lattice.ts";
import { latticeKernel, latticeShape } from "./lattice-kernel.ts";

/** Memory for the partial results of all splits. */
const MOST_SPLIT_BYTES = 1 << 27;

/** Where results go, and what they depend on besides the inputs. */
export interface LatticeResults {
  /** Bounds or sums of all rows. */
  readonly result: Region;
  /** Of sums: the bounds of all ranks. */
  readonly bounds: Region | undefined;
  /** The result is joined with what is there. */
  readonly continues: boolean;
}

/**
 * Records bounds (without `bounds`) or sums of a step. How rows and keys are shared out follows from the whole step, and
 * shows in no result: what is joined are maxima and integers.
 */
export function recordLattice(
  recorder: Recorder,
  args: AttentionInputs,
  plan: AttentionInputPlan,
  { result, bounds, continues }: LatticeResults,
): void {
  const { tokens, queryHeads, kvHeads, keyDim, valueDim } = plan;
  const operands = readAttentionOperands(recorder, args, plan);
  const { kvDType, queryDType, queryUnit, headsTogether, scales, rowPlaces } = operands;
  const chunk = kvChunkShapeOf(kvDType, [keyDim, valueDim], rowPlaces);
  const threads = latticeShape(recorder.gpu, plan, chunk);
  const step = stepWords(plan, Math.max(1, Math.floor(threads.rows / headsTogether)));
  const { items } = step;
  const itemTokens = items.reduce((most, item) => Math.max(most, item.tokens), 1);
  const rowGroups = Math.ceil((headsTogether * itemTokens) / threads.rows);
  const isSums = bounds !== undefined;
  const problem = { plan, queryDType, queryUnit, kvDType, chunk, rowScales: scales.length > 0, threads };
  const attend = latticeKernel(recorder, problem, isSums);
  const fold = foldLatticeKernel(recorder, plan, isSums);

  const words = layerWords(args.keyCache.dtype, plan, step);
  const isShared = plan.planned !== undefined && words.words === step.words;
  const planned = { ...words, region: isShared ? recorder.sharedWords(step.words) : recorder.words(words.words) };
  const rows = tokens * queryHeads;
  const rowBytes = isSums ? 8 * (valueDim + 1) : 12;
  const longest = items.reduce((most, { end }) => Math.max(most, end), 0);
  const mostSplits = Math.max(1, Math.floor((recorder.gpu.splitBytes ?? MOST_SPLIT_BYTES) / (rows * rowBytes)));
  const workgroups = items.length * kvHeads * rowGroups;
  const splitKeys = keysPerSplit(workgroups, averageKeys(items), longest, mostSplits, WORKGROUPS_WANTED);
  const range = splitsOf(items, splitKeys);
  const partial = recorder.scratch(Math.max(4, rows * range.count * rowBytes));
  const scoreBounds = bounds ?? planned.region;
  const [boundsStride = 0] = (bounds ?? result).strides;
  const grid = { step, chunk, rowGroups, splitKeys };
  const results = {
    sums: partial,
    states: scoreBounds,
    outFirst: scoreBounds.first,
    lseFirst: scoreBounds.first + boundsStride,
  };
  if (range.count > 0) attendSplits(recorder, attend, plan, operands, planned, grid, range, results);
  const foldWorkgroups = isSums ? rows : Math.ceil(rows / fold.threads);
  const params = recorder.uniform(
    FOLD_LATTICE_PARAMS.pack({
      workgroups: foldWorkgroups,
      rows,
      firstSplit: range.first,
      splits: range.count,
      splitKeys,
      queryHeads,
      tokensAt: step.tokensAt,
      sinksAt: planned.sinksAt,
      resultFirst: result.first,
      scoreBoundsFirst: scoreBounds.first,
      boundsStride,
      continues: continues ? 1 : 0,
    }),
  );
  recorder.dispatch(fold.kernel, [params, planned.region, partial, result, scoreBounds], foldWorkgroups);
}

/** From the first split that a row of the step sees to the last. */
function splitsOf(items: readonly WorkItem[], splitKeys: number): { first: number; count: number } {
  const seen = items.filter(({ start, end }) => start < end);
  if (seen.length === 0) return { first: 0, count: 0 };
  const start = seen.reduce((least, item) => Math.min(least, item.start), Number.POSITIVE_INFINITY);
  const end = seen.reduce((most, item) => Math.max(most, item.end), 0);
  const first = Math.floor(start / splitKeys);
  return { first, count: Math.ceil(end / splitKeys) - first };
}
