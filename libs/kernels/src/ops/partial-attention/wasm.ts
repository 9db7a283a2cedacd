import type { Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../../context.ts";
import { expectHeapTensor } from "../../operand.ts";
import { putView } from "../../wasm/put-view.ts";
import { dtypeCode, type WasmKernels } from "../../wasm/wasm-kernels.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import type { AttentionPlan, BlockTable } from "./attention-plan.ts";
import type { AttentionInputPlan } from "./attention-inputs.ts";
import { attentionTileKeys } from "./attention-tiles.ts";
import { type ContinuedSums, expectSumsWidth } from "./continued-sums.ts";
import { type PartialAttentionArgs, planPartialAttention } from "./index.ts";
import { ATTENTION_TABLE } from "./wasm-table.ts";

/** Rows (query token, head) that share a tile of keys: enough to hide the tile's conversion behind arithmetic. */
const MAX_ROWS = 64;

/** Bytes between rows of scores, as in `scores.as.ts`: room for the longest tile. */
const SCORE_STRIDE = 528;
/** Bytes between rows of spread-out weights, as in `value-sums.as.ts`. */
const SPREAD_STRIDE = 2064;
/** KV heads that share a tile, as in `partial-attention.as.ts`. */
const MAX_TILE_HEADS = 16;
/** Bytes of what latticeSums knows of a row, as in `lattice-sums.as.ts`. */
const ROW_SUMS_BYTES = 32;
/** Rows whose weights latticeSums spreads out together, and bytes of values beside them, as in `lattice-rows.as.ts`. */
const LATTICE_SPREAD_BYTES = 16 * SPREAD_STRIDE + 128 * 32;

/** f32 elements of a row's sums: its weighted values, padded, then its maximum and its sum of weights, padded. */
export function wasmSumsWidth(valueDim: number): number {
  return Math.ceil(valueDim / 4) * 4 + 4;
}

/** The operands that the kernel reads and writes, in its memory. */
export interface ResidentOperands {
  readonly query: Tensor;
  readonly keyCache: Tensor;
  readonly valueCache: Tensor;
  /** undefined where it is not written yet. */
  readonly out: Tensor | undefined;
  readonly lse: Tensor | undefined;
  readonly keyRowScales: Tensor | undefined;
  readonly valueRowScales: Tensor | undefined;
}

/** partialAttention by `partial-attention.as.ts`. */
export function partialAttentionWasm(memories: WasmMemories, context: KernelContext, args: PartialAttentionArgs): void {
  const plan = planPartialAttention(args);
  const name = "partialAttention";
  const kernels = memories.ofCache(name, "keyCache", args.keyCache);
  const keyCache = kernels.resident(name, "keyCache", args.keyCache);
  const valueCache = kernels.resident(name, "valueCache", args.valueCache);
  const [keyRowScales, valueRowScales] = (["keyScaleCache", "valueScaleCache"] as const).map((argument) => {
    const scales = args[argument];
    return scales === undefined ? undefined : kernels.resident(name, argument, scales);
  });
  const { sums } = plan;
  if (sums !== undefined) {
    expectSumsWidth(name, sums, wasmSumsWidth(plan.valueDim));
    kernels.resident(name, "sums.state", sums.state);
  }
  if (plan.tokens === 0 || plan.queryHeads === 0) return;
  const step = residentStep(name, kernels, plan);
  const query = kernels.input(name, "query", args.query);
  const isWritten = sums?.isLast !== false;
  const out = isWritten ? kernels.output(name, "out", args.out) : undefined;
  const lse = isWritten ? kernels.output(name, "lse", args.lse) : undefined;
  const kernel = kernels.get(context, `${name}_${keyCache.dtype}`);
  const layout = layOutAttention(plan, keyCache.dim(2), step.planned === undefined);
  const { pointer, ints, floats } = kernels.reserve(layout.tableBytes + layout.areaBytes);
  const operands = { query, keyCache, valueCache, out, lse, keyRowScales, valueRowScales };
  writeAttentionTable(ints, floats, pointer, plan, operands, layout);
  placeAttentionAreas(ints, pointer + layout.tableBytes, layout);
  writeStep(ints, pointer, plan, step, layout);
  kernel(pointer);
}

/** Where a step's plan and its block table lie. */
export interface ResidentStep {
  /** undefined where it has no plan in the kernel's memory. */
  readonly planned: AttentionPlan | undefined;
  readonly blockTable: Pick<BlockTable, "byteOffset" | "rowStride" | "columnStride">;
}

/** @throws ArgumentError, HeapExhausted */
export function residentStep(name: string, kernels: WasmKernels, plan: AttentionInputPlan): ResidentStep {
  const planned = plan.planned?.heap.id === kernels.heap.id ? plan.planned : undefined;
  const blockTable = planned?.visible.table ?? tableOf(kernels.input(name, "blockTable", plan.table.tensor));
  return { planned, blockTable };
}

/** Writes what the tokens see: where the plan has it, or the lists themselves, behind the parameters. */
export function writeStep(
  ints: Int32Array,
  pointer: number,
  plan: AttentionInputPlan,
  { planned, blockTable }: ResidentStep,
  layout: AttentionLayout,
): void {
  writeVisibleKeys(ints, planned?.byteOffset ?? pointer + layout.table.visible, plan.tokens, blockTable);
  if (planned !== undefined) return;
  const visible = layout.table.visible >> 2;
  ints.set(plan.sequences, visible);
  ints.set(plan.starts, visible + plan.tokens);
  ints.set(plan.ends, visible + 2 * plan.tokens);
}

function tableOf({ byteOffset, strides }: Tensor): Pick<BlockTable, "byteOffset" | "rowStride" | "columnStride"> {
  const [rowStride = 0, columnStride = 0] = strides;
  return { byteOffset, rowStride, columnStride };
}

/**
 * Writes what stays the same while the operands do.
 * @param pointer where `ints` and `floats`, which are the same words, begin
 */
export function writeAttentionTable(
  ints: Int32Array,
  floats: Float32Array,
  pointer: number,
  plan: AttentionInputPlan & { readonly sums?: ContinuedSums | undefined },
  operands: ResidentOperands,
  { maxRows, tileKeys, table }: AttentionLayout,
): void {
  const { at } = ATTENTION_TABLE;
  const { query, keyCache, valueCache, out, lse, keyRowScales, valueRowScales } = operands;
  const { sums } = plan;
  putView(ints, at.QUERY, query, 3);
  ints[at.QUERY + 4] = dtypeCode(query);
  putView(ints, at.KEY, keyCache, 3);
  putView(ints, at.VALUE, valueCache, 3);
  ints[at.TOKENS] = plan.tokens;
  ints[at.QUERY_HEADS] = plan.queryHeads;
  ints[at.KEY_DIM] = plan.keyDim;
  ints[at.VALUE_DIM] = plan.valueDim;
  ints[at.BLOCK_SIZE] = plan.blockSize;
  ints[at.GROUP_SIZE] = plan.headGroup.size;
  ints[at.GROUP_OFFSET] = plan.headGroup.offset;
  floats[at.SCALE] = plan.scale * Math.LOG2E;
  floats[at.SOFTCAP] = plan.softcap * Math.LOG2E;
  putView(ints, at.OUT, out, 3);
  putView(ints, at.LSE, lse, 2);
  ints[at.MAX_ROWS] = maxRows;
  ints[at.TILE_KEYS] = tileKeys;
  ints[at.SINKS] = plan.sinks === undefined ? 0 : pointer + table.sinks;
  if (plan.sinks !== undefined) writeSinks(floats, plan.sinks, table);
  ints[at.KEY_SCALES] = plan.keyScales === undefined ? 0 : pointer + table.keyScales;
  if (plan.keyScales !== undefined) floats.set(plan.keyScales, table.keyScales >> 2);
  ints[at.VALUE_SCALES] = plan.valueScales === undefined ? 0 : pointer + table.valueScales;
  if (plan.valueScales !== undefined) floats.set(plan.valueScales, table.valueScales >> 2);
  putView(ints, at.KEY_ROW_SCALES, keyRowScales, 3);
  putView(ints, at.VALUE_ROW_SCALES, valueRowScales, 3);
  putView(ints, at.SUMS, sums && expectHeapTensor("partialAttention", "sums.state", sums.state), 2);
  ints[at.SUMS_FIRST] = sums?.isFirst === false ? 0 : 1;
  ints[at.SUMS_LAST] = sums?.isLast === false ? 0 : 1;
}

/** Writes the sinks of the query heads. */
export function writeSinks(floats: Float32Array, sinks: Float32Array, table: AttentionLayout["table"]): void {
  for (let head = 0; head < sinks.length; head++) {
    floats[(table.sinks >> 2) + head] = (sinks[head] ?? 0) * Math.LOG2E;
  }
}

/** Writes where the kernel works. */
export function placeAttentionAreas(ints: Int32Array, pointer: number, { areas }: AttentionLayout): void {
  const { at } = ATTENTION_TABLE;
  ints[at.Q_ROWS] = pointer + areas.query;
  ints[at.O_ROWS] = pointer + areas.out;
  ints[at.S_ROWS] = pointer + areas.scores;
  ints[at.STATE] = pointer + areas.state;
  ints[at.POINTERS] = pointer + areas.pointers;
  ints[at.TILE] = pointer + areas.tile;
  ints[at.SPREAD] = pointer + areas.spread;
  ints[at.EXPONENTS] = pointer + areas.exponents;
  ints[at.ROW_SUMS] = pointer + areas.rowSums;
}

/** Writes what the query tokens see in a step: `sequences`, `starts` and `ends` lie one after another. */
export function writeVisibleKeys(
  ints: Int32Array,
  visibleAt: number,
  tokens: number,
  { byteOffset, rowStride, columnStride }: Pick<BlockTable, "byteOffset" | "rowStride" | "columnStride">,
): void {
  const { at } = ATTENTION_TABLE;
  ints[at.TABLE] = byteOffset;
  ints[at.TABLE + 1] = 4 * rowStride;
  ints[at.TABLE + 2] = 4 * columnStride;
  ints[at.SEQUENCES] = visibleAt;
  ints[at.STARTS] = visibleAt + tokens * 4;
  ints[at.ENDS] = visibleAt + tokens * 8;
  ints[at.TOUCHED] = 0;
}

/** Areas that only some kernels work in. */
interface AreasOfPass {
  /** Bytes of a sum in a row. Default 4. */
  readonly sumBytes?: number;
  /** How large values are, of attentionBounds. */
  readonly exponents?: boolean;
  /** What latticeSums knows of each row. */
  readonly rowSums?: boolean;
}

export type AttentionLayout = ReturnType<typeof layOutAttention>;

/**
 * Where everything lies, in bytes: in the table, which begins with the parameters, and in the areas that the kernel
 * works in.
 */
export function layOutAttention(
  plan: AttentionInputPlan,
  kvHeads: number,
  keepsVisible: boolean,
  { sumBytes = 4, exponents = false, rowSums = false }: AreasOfPass = {},
) {
  const keyColumns = Math.ceil(plan.keyDim / 4) * 4;
  const valueColumns = Math.ceil(plan.valueDim / 4) * 4;
  const columns = Math.max(keyColumns, valueColumns, 4);
  const tileKeys = attentionTileKeys(plan.keyDim, plan.valueDim);
  const maxRows = Math.min(MAX_ROWS, plan.tokens * plan.queryHeads);
  let bytes = 0;
  const take = (size: number): number => {
    const offset = bytes;
    bytes += Math.ceil(size / 64) * 64;
    return offset;
  };
  take(ATTENTION_TABLE.words * 4);
  const table = {
    visible: take(keepsVisible ? plan.tokens * 12 : 0),
    keyScales: take((plan.keyScales?.length ?? 0) * 4),
    valueScales: take((plan.valueScales?.length ?? 0) * 4),
    sinks: take(plan.sinks === undefined ? 0 : plan.queryHeads * 4),
  };
  const tableBytes = bytes;
  bytes = 0;
  const areas = {
    query: take(maxRows * keyColumns * 4),
    out: take(maxRows * (valueColumns * sumBytes + (rowSums ? 64 : 0))),
    scores: take(maxRows * SCORE_STRIDE),
    state: take(maxRows * 20),
    spread: take(rowSums ? LATTICE_SPREAD_BYTES : 4 * SPREAD_STRIDE + 4 * valueColumns * 4),
    pointers: take(tileKeys * 20),
    tile: take(Math.min(kvHeads, MAX_TILE_HEADS + 1) * tileKeys * columns * 4),
    exponents: take(exponents ? Math.min(kvHeads, MAX_TILE_HEADS + 1) * SCORE_STRIDE : 0),
    rowSums: take(rowSums ? maxRows * ROW_SUMS_BYTES : 0),
  };
  return { tableBytes, areaBytes: bytes, maxRows, tileKeys, table, areas };
}
