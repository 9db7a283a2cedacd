import { ArgumentError, type DType } from "@lockstep/tensor";
import type { CompiledKernel } from "../../webgpu/compiled-kernel.ts";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import type { Region } from "../../webgpu/region.ts";
import { assembleWgsl, type FloatDType, floatDType } from "../../webgpu/wgsl-operands.ts";
import type { PartialAttentionArgs, PartialAttentionPlan } from "./index.ts";
import {
  type AttentionKernelShape,
  attentionKernelShape,
  averageKeys,
  keysPerSplit,
  lanesAndRows,
  WORKGROUPS_WANTED,
  WORKGROUPS_WANTED_F32,
} from "./kernel-shape.ts";
import {
  type KvChunkShape,
  type KvElement,
  kvChunkShape,
  kvOperand,
  queryOperand,
  rowScaleOperand,
} from "./kv-operand.ts";
import { chooseMatrixAttention, matrixAttentionKernel } from "./matrix-attention.ts";
import { layerWords, stepWords, TABLE_WIDTH } from "./plan-words.ts";
import { MERGE_PARAMS, mergeBlocks, mergeKernel, mergeShape } from "./merge-splits.ts";
import { scoreOwnership, teamExchange } from "./team-exchange.ts";
import { ATTENTION_PARAMS_WGSL } from "./attention-params.wgsl.ts";
import { PARTIAL_ATTENTION_WGSL } from "./partial-attention.wgsl.ts";

const ATTENTION_SOURCE = [ATTENTION_PARAMS_WGSL, PARTIAL_ATTENTION_WGSL].join("\n");
/** Parameters of partial-attention.wgsl and matrix-attention.wgsl. */
const PARAMS = new ParamTable(ATTENTION_SOURCE, [
  "workgroups",
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
/** Memory for the partial results of all splits, every token having as many as the longest. */
const MOST_SPLIT_BYTES = 1 << 27;

/** Records partialAttention. `plan` is what the check of `args` returned. */
export function recordPartialAttention(
  recorder: Recorder,
  args: PartialAttentionArgs,
  plan: PartialAttentionPlan,
): void {
  const { query, keyCache, valueCache, out, lse } = args;
  if (args.sums !== undefined) throw new ArgumentError("partialAttention", "sums", "left out on webgpu", "given");
  for (const [name, operand] of Object.entries({ query, out, lse })) {
    expectContiguousOnGpu("partialAttention", name, operand);
  }
  const { tokens, queryHeads, kvHeads, keyDim, valueDim, headGroup } = plan;
  if (tokens === 0 || queryHeads === 0) return;
  const queryRegion = recorder.read(query);
  const keyRegion = recorder.read(keyCache);
  const valueRegion = recorder.read(valueCache);
  const scaleRegions = [args.keyScaleCache, args.valueScaleCache]
    .filter((scales) => scales !== undefined)
    .map((scales) => recorder.read(scales));
  const kvDType = kvElement(keyCache.dtype);
  const rowPlaces = [keyRegion, valueRegion].flatMap(({ first, strides }) => [first, ...strides.slice(0, 3)]);
  const chunk = kvChunkShape(kvDType, [keyDim, valueDim, ...rowPlaces]);
  const headsTogether = Math.min(headGroup.size, queryHeads);
  const tableKeys = plan.table.columns * plan.blockSize;
  const queryDType = query.dtype === "f8e4m3" ? query.dtype : floatDType(query.dtype);
  const queryUnit = keyDim % 4 === 0 && queryRegion.first % 4 === 0 ? 4 : 1;
  const matrices =
    kvDType === "f16" && queryDType !== "f8e4m3" && chunk.aligned
      ? chooseMatrixAttention(
          recorder.gpu,
          {
            keyDim,
            valueDim,
            heads: headsTogether,
            sharedValues: plan.valueDim <= plan.keyDim && sameMemory(keyRegion, valueRegion),
            queryDType,
            queryUnit,
            blockSize: plan.blockSize,
            softcap: plan.softcap !== 0,
            sinks: plan.sinks !== undefined,
          },
          tokens * kvHeads * tableKeys,
        )
      : undefined;
  const { lanes, mostRows } =
    matrices === undefined
      ? lanesAndRows(recorder.gpu, keyDim, valueDim, chunk)
      : { lanes: 1, mostRows: matrices.mostRows };

  const step = stepWords(plan, matrices === undefined ? Math.max(1, Math.floor(mostRows / headsTogether)) : 1);
  const { items } = step;
  const itemTokens = items.reduce((most, item) => Math.max(most, item.tokens), 1);
  const rowGroups = Math.ceil((headsTogether * itemTokens) / mostRows);
  const rows = Math.ceil((headsTogether * itemTokens) / rowGroups);
  const longest = items.reduce((most, item) => Math.max(most, item.end), 0);
  const splitBytes = tokens * queryHeads * (valueDim + 2) * 4;
  const mostSplits = Math.max(1, Math.floor(MOST_SPLIT_BYTES / splitBytes));
  const workgroupsPerSplit = items.length * kvHeads * rowGroups;
  const vectorWanted = kvDType === "f32" ? WORKGROUPS_WANTED_F32 : WORKGROUPS_WANTED;
  const { workgroupsWanted = vectorWanted, shape: matrixShape } = matrices ?? {};
  const splitKeys = keysPerSplit(
    workgroupsPerSplit,
    averageKeys(items),
    longest,
    mostSplits,
    workgroupsWanted,
    matrixShape?.keys,
  );
  const splits = Math.max(1, Math.ceil(longest / splitKeys));
  const merging = mergeShape(recorder, workgroupsWanted / workgroupsPerSplit);

  const shape: Specialisation = {
    plan,
    queryDType,
    queryUnit,
    kvDType,
    chunk,
    rowScales: args.keyScaleCache !== undefined,
    threads: attentionKernelShape(recorder.gpu, lanes, rows, keyDim, valueDim, chunk),
    severalTokens: itemTokens > 1,
  };
  const kernel = (split: boolean): CompiledKernel =>
    matrices === undefined ? attentionKernel(recorder, shape, split) : matrixAttentionKernel(recorder, matrices, split);
  const attend = kernel(splits > 1);
  // Compiled before they are needed: a growing context must not stall when it gets its second split.
  if (splits === 1 && tableKeys > splitKeys) {
    kernel(true);
    mergeKernel(recorder, plan, merging);
  }

  const planWords = layerWords(keyCache.dtype, plan, step);
  const isShared = plan.planned !== undefined && planWords.words === step.words;
  const planRegion = isShared ? recorder.sharedWords(step.words) : recorder.words(planWords.words);
  const outRegion = recorder.write(out);
  const lseRegion = recorder.write(lse);
  const partialRows = tokens * queryHeads * splits;
  const sums = splits > 1 ? recorder.scratch(partialRows * valueDim * 4) : outRegion;
  const states = splits > 1 ? recorder.scratch(partialRows * 8) : lseRegion;
  const [keyBlock = 0, keySlot = 0, keyHead = 0] = keyRegion.strides;
  const [valueBlock = 0, valueSlot = 0, valueHead = 0] = valueRegion.strides;
  const unit = chunk.aligned ? chunk.chunk : 1;
  const inUnits = (place: number): number => place / unit;
  const workgroups = items.length * kvHeads * rowGroups * splits;
  const [keyScales, valueScales] = scaleRegions;
  const params = recorder.uniform(
    PARAMS.pack({
      workgroups,
      splits,
      splitKeys: splits > 1 ? splitKeys : 0,
      rowGroups,
      queryHeads,
      kvHeads,
      groupSize: headGroup.size,
      groupOffset: headGroup.offset,
      queryFirst: queryRegion.first,
      keyFirst: inUnits(keyRegion.first),
      keyBlockStride: inUnits(keyBlock),
      keySlotStride: inUnits(keySlot),
      keyHeadStride: inUnits(keyHead),
      valueFirst: inUnits(valueRegion.first),
      valueBlockStride: inUnits(valueBlock),
      valueSlotStride: inUnits(valueSlot),
      valueHeadStride: inUnits(valueHead),
      tableWidth: TABLE_WIDTH,
      tokensAt: step.tokensAt,
      tableAt: step.tableAt,
      outFirst: outRegion.first,
      lseFirst: lseRegion.first,
      scale: plan.scale,
      softcap: plan.softcap,
      sinksAt: planWords.sinksAt,
      scalesAt: planWords.scalesAt,
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
  const regions = [params, planRegion, sums, states, queryRegion, keyRegion, valueRegion, ...scaleRegions];
  recorder.dispatch(attend, regions.slice(0, attend.bindings.length), workgroups);
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
      sinksAt: planWords.sinksAt,
    }),
  );
  const mergeRegions = [mergeParams, planRegion, sums, states, outRegion, lseRegion];
  recorder.dispatch(mergeKernel(recorder, plan, merging), mergeRegions, mergeWorkgroups);
}

/** True when rows of values are the first columns of the rows of keys. */
function sameMemory(keys: Region, values: Region): boolean {
  const place = ({ home, offset, first, strides }: Region): unknown[] => [offset, first, ...strides.slice(0, 3), home];
  const other = place(values);
  return typeof keys.home !== "string" && place(keys).every((part, index) => part === other[index]);
}

/** Everything that a compiled kernel is made for. */
interface Specialisation {
  readonly plan: PartialAttentionPlan;
  readonly queryDType: FloatDType | "f8e4m3";
  readonly queryUnit: 1 | 4;
  readonly kvDType: KvElement;
  readonly chunk: KvChunkShape;
  readonly rowScales: boolean;
  readonly threads: AttentionKernelShape;
  readonly severalTokens: boolean;
}

function attentionKernel(recorder: Recorder, special: Specialisation, split: boolean): CompiledKernel {
  const { plan, queryDType, queryUnit, kvDType, chunk, rowScales, severalTokens } = special;
  const { threads, lanes, keys, rows } = special.threads;
  const { keyDim, valueDim, blockSize } = plan;
  const softcap = plan.softcap !== 0;
  const sinks = plan.sinks !== undefined && !split;
  const useSubgroups = recorder.gpu.subgroupWidth > 0;
  const flags = [
    split ? "split" : "",
    severalTokens ? "several tokens" : "",
    softcap ? "softcap" : "",
    sinks ? "sinks" : "",
    rowScales ? "row scales" : "",
    chunk.aligned ? "" : "unaligned",
    queryUnit === 4 ? "" : "unaligned query",
    useSubgroups ? "" : "no subgroups",
  ].filter((flag) => flag !== "");
  return recorder.kernel({
    key: [
      `partial-attention q ${queryDType} kv ${kvDType} Dk${keyDim} Dv${valueDim} bs${blockSize}`,
      `threads${threads} lanes${lanes} keys${keys} rows${rows}`,
      ...flags,
    ].join(" "),
    entryPoint: "partial_attention",
    bindings: [
      ...(["uniform", "read", "write", "write", "read", "read", "read"] as const),
      ...(rowScales ? (["read", "read"] as const) : []),
    ],
    wgsl: () =>
      assembleWgsl(
        placed(ATTENTION_SOURCE, useSubgroups),
        {
          ...attentionConstants(special),
          SPLIT: split,
          SEVERAL_TOKENS: severalTokens,
          SOFTCAP: softcap,
          SINKS: sinks,
          QUANTISED: plan.keyScales !== undefined,
          ROW_SCALES: rowScales,
        },
        [
          "alias KvChunk = array<vec4f, CHUNK_VECTORS>;",
          queryOperand(4, queryDType, queryUnit),
          kvOperand("key", 5, kvDType, keyDim, chunk, lanes),
          kvOperand("value", 6, kvDType, valueDim, chunk, lanes),
          rowScaleOperand("key", 7, kvDType, rowScales),
          rowScaleOperand("value", 8, kvDType, rowScales),
          teamExchange(special.threads, useSubgroups),
        ],
        useSubgroups ? "enable subgroups;" : "",
      ),
  });
}

/** The kernel with the builtin by which a thread knows its place among those that it exchanges scores with. */
function placed(source: string, useSubgroups: boolean): string {
  return source
    .replace("PLACE_PARAMETER", useSubgroups ? "@builtin(subgroup_invocation_id) subgroup_place: u32," : "")
    .replace("= PLACE;", useSubgroups ? "= subgroup_place;" : "= thread;");
}

function attentionConstants(special: Specialisation): Record<string, number> {
  const { threads, lanes, keys, rows, rowSlots } = special.threads;
  const { scores, own, ownRows, ownKeys, spread, rowLanes } = scoreOwnership(special.threads);
  const { chunk, vectors } = special.chunk;
  const { keyDim, valueDim, blockSize } = special.plan;
  const [keyChunks, valueChunks] = [Math.ceil(keyDim / chunk), Math.ceil(valueDim / chunk)];
  const rounds = (chunks: number): number => Math.max(1, Math.ceil(chunks / lanes));
  const [keyRounds, valueRounds] = [rounds(keyChunks), rounds(valueChunks)];
  return {
    THREADS: threads,
    LANES: lanes,
    TEAMS: threads / lanes,
    KEYS: keys,
    TILE: keys * (threads / lanes),
    ROWS: rows,
    ROW_SLOTS: rowSlots,
    SCORES: scores,
    OWN: own,
    OWN_ROWS: ownRows,
    OWN_KEYS: ownKeys,
    SPREAD: spread,
    ROW_LANES: rowLanes,
    KEY_DIM: keyDim,
    VALUE_DIM: valueDim,
    CHUNK: chunk,
    CHUNK_VECTORS: vectors,
    KEY_CHUNKS: keyChunks,
    VALUE_CHUNKS: valueChunks,
    KEY_ROUNDS: keyRounds,
    VALUE_ROUNDS: valueRounds,
    KEY_VECTORS: keyRounds * vectors,
    VALUE_VECTORS: valueRounds * vectors,
    BLOCK_SIZE: blockSize,
  };
}

function kvElement(dtype: DType): KvElement {
  return dtype === "f8e4m3" || dtype === "i8" ? dtype : floatDType(dtype);
}
