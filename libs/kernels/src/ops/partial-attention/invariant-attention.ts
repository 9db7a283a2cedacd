import type { GpuDevice } from "../../device/gpu-device.ts";
import type { Operand } from "../../operand.ts";
import { expectApart } from "../../overlapping-operands.ts";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { attendSplits, type SplitRange } from "./attend-splits.ts";
import { attentionKernel } from "./attention-kernel.ts";
import type { AttentionOperandRegions } from "./attention-regions.ts";
import { type ContinuedSums, expectSumsWidth, INVARIANT_SPLIT_KEYS, invariantSumsWidth } from "./continued-sums.ts";
import { FOLD_PARAMS, foldKernel } from "./fold-splits.ts";
import type { PartialAttentionArgs, PartialAttentionPlan } from "./index.ts";
import { type AttentionKernelShape, attentionKernelShape, lanesAndRows } from "./kernel-shape.ts";
import { type KvChunkShape, kvChunkShapeOf } from "./kv-operand.ts";
import { layerWords, stepWords } from "./plan-words.ts";
import type { WorkItem } from "./work-items.ts";

/** Memory for the partial results of as many splits as are folded at a time: how many never shows in the results. */
const MOST_SPLIT_BYTES = 1 << 27;

/** Throws ArgumentError unless a GPU can keep these sums, and write results beside them. */
export function checkInvariantSums(
  name: string,
  sums: ContinuedSums,
  valueDim: number,
  results: { readonly out: Operand; readonly lse: Operand },
): void {
  expectSumsWidth(name, sums, invariantSumsWidth(valueDim));
  expectContiguousOnGpu(name, "sums.state", sums.state);
  for (const [argument, result] of Object.entries(results)) {
    expectApart(name, "sums.state", sums.state, argument, result);
  }
}

/**
 * Attention whose bits depend, for each row, on its own query and on the keys that it sees, by their local indexes:
 * - splits begin at multiples of a constant, and tiles at multiples of their own within them
 * - one kernel for every step: its rows and keys follow from head dims, dtypes and the device
 * - the splits that a row sees are folded one after another, in order, by one kernel too. So sums can end after any
 *   split, in memory, and go on from there
 */
export function recordInvariantAttention(
  recorder: Recorder,
  args: PartialAttentionArgs,
  plan: PartialAttentionPlan,
  operands: AttentionOperandRegions,
): void {
  const { tokens, queryHeads, valueDim, sums } = plan;
  const { kvDType, queryDType, queryUnit, headsTogether, scales, rowPlaces } = operands;
  const chunk = kvChunkShapeOf(kvDType, [plan.keyDim, plan.valueDim], rowPlaces);
  const threads = invariantShape(recorder.gpu, plan, chunk);
  const step = stepWords(plan, Math.max(1, Math.floor(threads.rows / headsTogether)));
  const { items } = step;
  const itemTokens = items.reduce((most, item) => Math.max(most, item.tokens), 1);
  const rowGroups = Math.ceil((headsTogether * itemTokens) / threads.rows);
  const problem = { plan, queryDType, queryUnit, kvDType, chunk, rowScales: scales.length > 0, threads };
  const attend = attentionKernel(recorder, { ...problem, severalTokens: true }, true);
  const fold = foldKernel(recorder, plan);

  const words = layerWords(args.keyCache.dtype, plan, step);
  const isShared = plan.planned !== undefined && words.words === step.words;
  const planned = { ...words, region: isShared ? recorder.sharedWords(step.words) : recorder.words(words.words) };
  const rows = tokens * queryHeads;
  const rowBytes = 4 * invariantSumsWidth(valueDim);
  const splits = splitsOf(items);
  const splitBytes = recorder.gpu.splitBytes ?? MOST_SPLIT_BYTES;
  const together = Math.max(1, Math.min(splits.count, Math.floor(splitBytes / (rows * rowBytes))));
  const rounds = Math.max(1, Math.ceil(splits.count / together));

  const partialSums = recorder.scratch(rows * together * valueDim * 4);
  const partialStates = recorder.scratch(rows * together * 8);
  const state = sums === undefined ? recorder.scratch(rounds > 1 ? rows * rowBytes : 4) : recorder.update(sums.state);
  const isLast = sums?.isLast !== false;
  // Not written where sums go on, but bound.
  const out = isLast ? recorder.write(args.out) : recorder.scratch(4);
  const lse = isLast ? recorder.write(args.lse) : recorder.scratch(4);
  const grid = { step, chunk, rowGroups, splitKeys: INVARIANT_SPLIT_KEYS };
  const results = { sums: partialSums, states: partialStates, outFirst: 0, lseFirst: 0 };
  for (let round = 0; round < rounds; round++) {
    const done = round * together;
    const range = { first: splits.first + done, count: Math.min(together, splits.count - done) };
    attendSplits(recorder, attend, plan, operands, planned, grid, range, results);
    const foldParams = recorder.uniform(
      FOLD_PARAMS.pack({
        workgroups: rows,
        firstSplit: range.first,
        splits: range.count,
        splitKeys: INVARIANT_SPLIT_KEYS,
        queryHeads,
        tokensAt: step.tokensAt,
        stateFirst: state.first,
        outFirst: out.first,
        lseFirst: lse.first,
        sinksAt: planned.sinksAt,
        begins: round === 0 && sums?.isFirst !== false ? 1 : 0,
        ends: round === rounds - 1 && isLast ? 1 : 0,
      }),
    );
    const foldRegions = [foldParams, planned.region, partialSums, partialStates, state, out, lse];
    recorder.dispatch(fold, foldRegions, rows);
  }
}

/** From the first split that a row of the step sees to the last. */
function splitsOf(items: readonly WorkItem[]): SplitRange {
  const seen = items.filter(({ start, end }) => start < end);
  if (seen.length === 0) return { first: 0, count: 0 };
  const start = seen.reduce((least, item) => Math.min(least, item.start), Number.POSITIVE_INFINITY);
  const end = seen.reduce((most, item) => Math.max(most, item.end), 0);
  const first = Math.floor(start / INVARIANT_SPLIT_KEYS);
  return { first, count: Math.ceil(end / INVARIANT_SPLIT_KEYS) - first };
}

/** The shape for head dims, the same for any number of rows; its tiles divide a split. */
function invariantShape(
  gpu: GpuDevice,
  { keyDim, valueDim }: PartialAttentionPlan,
  chunk: KvChunkShape,
): AttentionKernelShape {
  const { lanes, mostRows } = lanesAndRows(gpu, keyDim, valueDim, chunk);
  const shape = attentionKernelShape(gpu, lanes, mostRows, keyDim, valueDim, chunk);
  const teams = shape.threads / lanes;
  return { ...shape, keys: Math.min(shape.keys, INVARIANT_SPLIT_KEYS / teams) };
}
