import type { CompiledKernel } from "../../webgpu/compiled-kernel.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import type { Region } from "../../webgpu/region.ts";
import type { AttentionInputPlan } from "./attention-inputs.ts";
import { ATTENTION_PARAMS_WGSL, ATTENTION_RESULTS_WGSL } from "./attention-params.wgsl.ts";
import type { AttentionOperandRegions } from "./attention-regions.ts";
import type { KvChunkShape } from "./kv-operand.ts";
import { PARTIAL_ATTENTION_WGSL } from "./partial-attention.wgsl.ts";
import { type StepWords, TABLE_WIDTH } from "./plan-words.ts";

export const ATTENTION_SOURCE = [ATTENTION_PARAMS_WGSL, ATTENTION_RESULTS_WGSL, PARTIAL_ATTENTION_WGSL].join("\n");
/** Parameters of partial-attention.wgsl, matrix-attention.wgsl and lattice-attention.wgsl. */
const PARAMS = new ParamTable(ATTENTION_SOURCE, [
  "workgroups",
  "firstSplit",
  "splits",
  "splitKeys",
  "rowGroups",
  "queryHeads",
  "kvHeads",
  "groupSize",
  "groupOffset",
  "queryFirst",
  "keyFirst",
  "keyBlockStride",
  "keySlotStride",
  "keyHeadStride",
  "valueFirst",
  "valueBlockStride",
  "valueSlotStride",
  "valueHeadStride",
  "tableWidth",
  "tokensAt",
  "tableAt",
  "outFirst",
  "lseFirst",
  "scale",
  "softcap",
  "sinksAt",
  "scalesAt",
  "keyScaleFirst",
  "keyScaleBlockStride",
  "keyScaleSlotStride",
  "keyScaleHeadStride",
  "valueScaleFirst",
  "valueScaleBlockStride",
  "valueScaleSlotStride",
  "valueScaleHeadStride",
]);

/** The plan's words on the GPU, and where a layer's begin in them. */
export interface PlanRegion {
  readonly region: Region;
  readonly sinksAt: number;
  readonly scalesAt: number;
}

/** How the rows and keys of a step are shared out to workgroups. */
export interface SplitGrid {
  readonly step: StepWords;
  readonly chunk: KvChunkShape;
  /** Workgroups that the rows of an item need. */
  readonly rowGroups: number;
  /** Keys of a split, from every multiple of their number on in local indexes; 0: there is one split, of all keys. */
  readonly splitKeys: number;
}

/** Consecutive splits of a step. */
export interface SplitRange {
  readonly first: number;
  readonly count: number;
}

/** Where results go: the op's, or partial ones of each split. */
export interface SplitResults {
  readonly sums: Region;
  readonly states: Region;
  readonly outFirst: number;
  readonly lseFirst: number;
}

/** Records attention over a range of splits. */
export function attendSplits(
  recorder: Recorder,
  kernel: CompiledKernel,
  plan: AttentionInputPlan,
  operands: AttentionOperandRegions,
  planned: PlanRegion,
  { step, chunk, rowGroups, splitKeys }: SplitGrid,
  range: SplitRange,
  results: SplitResults,
): void {
  const { query, keys, values, scales } = operands;
  const [keyScales, valueScales] = scales;
  const [keyBlock = 0, keySlot = 0, keyHead = 0] = keys.strides;
  const [valueBlock = 0, valueSlot = 0, valueHead = 0] = values.strides;
  const unit = chunk.aligned ? chunk.chunk : 1;
  const inUnits = (place: number): number => place / unit;
  const workgroups = step.items.length * plan.kvHeads * rowGroups * range.count;
  const params = recorder.uniform(
    PARAMS.pack({
      workgroups,
      firstSplit: range.first,
      splits: range.count,
      splitKeys,
      rowGroups,
      queryHeads: plan.queryHeads,
      kvHeads: plan.kvHeads,
      groupSize: plan.headGroup.size,
      groupOffset: plan.headGroup.offset,
      queryFirst: query.first,
      keyFirst: inUnits(keys.first),
      keyBlockStride: inUnits(keyBlock),
      keySlotStride: inUnits(keySlot),
      keyHeadStride: inUnits(keyHead),
      valueFirst: inUnits(values.first),
      valueBlockStride: inUnits(valueBlock),
      valueSlotStride: inUnits(valueSlot),
      valueHeadStride: inUnits(valueHead),
      tableWidth: TABLE_WIDTH,
      tokensAt: step.tokensAt,
      tableAt: step.tableAt,
      outFirst: results.outFirst,
      lseFirst: results.lseFirst,
      scale: plan.scale,
      softcap: plan.softcap,
      sinksAt: planned.sinksAt,
      scalesAt: planned.scalesAt,
      keyScaleFirst: keyScales?.first ?? 0,
      keyScaleBlockStride: keyScales?.strides[0] ?? 0,
      keyScaleSlotStride: keyScales?.strides[1] ?? 0,
      keyScaleHeadStride: keyScales?.strides[2] ?? 0,
      valueScaleFirst: valueScales?.first ?? 0,
      valueScaleBlockStride: valueScales?.strides[0] ?? 0,
      valueScaleSlotStride: valueScales?.strides[1] ?? 0,
      valueScaleHeadStride: valueScales?.strides[2] ?? 0,
    }),
  );
  const regions = [params, planned.region, results.sums, results.states, query, keys, values, ...scales];
  recorder.dispatch(kernel, regions.slice(0, kernel.bindings.length), workgroups);
}
