import type { KernelContext } from "../../context.ts";
import { putView } from "../../wasm/put-view.ts";
import { dtypeCode } from "../../wasm/wasm-kernels.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { type PartialAttentionArgs, type PartialAttentionPlan, planPartialAttention } from "./index.ts";
import { ATTENTION_TABLE } from "./wasm-table.ts";

/** Rows (query token, head) that share a tile of keys: enough to hide the tile's conversion behind arithmetic. */
const MAX_ROWS = 64;
/** Columns of keys in a tile: small enough for the L1 cache, many enough to amortise a row's rescale. */
const TILE_ELEMENTS = 4096;

/** Bytes between rows of scores, as in `scores.as.ts`: room for the longest tile. */
const SCORE_STRIDE = 528;
const MAX_TILE_KEYS = 128;
/** Bytes between rows of spread-out weights, as in `weighted-sum.as.ts`. */
const SPREAD_STRIDE = 2064;
/** KV heads that share a tile, as in `partial-attention.as.ts`. */
const MAX_TILE_HEADS = 16;

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
  if (plan.tokens === 0 || plan.queryHeads === 0) return;
  const blockTable = kernels.input(name, "blockTable", plan.table.tensor);
  const query = kernels.input(name, "query", args.query);
  const out = kernels.output(name, "out", args.out);
  const lse = kernels.output(name, "lse", args.lse);
  const planned = plan.planned?.heap.id === kernels.heap.id ? plan.planned : undefined;
  const kernel = kernels.get(context, `${name}_${keyCache.dtype}`);
  const { bytes, maxRows, tileKeys, offsets } = layOutScratch(plan, keyCache.dim(2), planned === undefined);
  const { pointer, ints, floats } = kernels.reserve(bytes);
  const { at } = ATTENTION_TABLE;
  putView(ints, at.QUERY, query, 3);
  ints[at.QUERY + 4] = dtypeCode(query);
  putView(ints, at.KEY, keyCache, 3);
  putView(ints, at.VALUE, valueCache, 3);
  putView(ints, at.TABLE, blockTable, 2);
  const visibleAt = planned?.byteOffset ?? pointer + offsets.visible;
  ints[at.SEQUENCES] = visibleAt;
  ints[at.STARTS] = visibleAt + plan.tokens * 4;
  ints[at.ENDS] = visibleAt + plan.tokens * 8;
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
  ints[at.Q_ROWS] = pointer + offsets.query;
  ints[at.O_ROWS] = pointer + offsets.out;
  ints[at.S_ROWS] = pointer + offsets.scores;
  ints[at.STATE] = pointer + offsets.state;
  ints[at.POINTERS] = pointer + offsets.pointers;
  ints[at.TILE] = pointer + offsets.tile;
  ints[at.TOUCHED] = 0;
  ints[at.SINKS] = plan.sinks === undefined ? 0 : pointer + offsets.sinks;
  for (let head = 0; head < (plan.sinks?.length ?? 0); head++) {
    floats[(offsets.sinks >> 2) + head] = (plan.sinks?.[head] ?? 0) * Math.LOG2E;
  }
  ints[at.KEY_SCALES] = plan.keyScales === undefined ? 0 : pointer + offsets.keyScales;
  if (plan.keyScales !== undefined) floats.set(plan.keyScales, offsets.keyScales >> 2);
  ints[at.VALUE_SCALES] = plan.valueScales === undefined ? 0 : pointer + offsets.valueScales;
  if (plan.valueScales !== undefined) floats.set(plan.valueScales, offsets.valueScales >> 2);
  ints[at.SPREAD] = pointer + offsets.spread;
  putView(ints, at.KEY_ROW_SCALES, keyRowScales, 3);
  putView(ints, at.VALUE_ROW_SCALES, valueRowScales, 3);
  if (planned === undefined) {
    const visible = offsets.visible >> 2;
    ints.set(plan.sequences, visible);
    ints.set(plan.starts, visible + plan.tokens);
    ints.set(plan.ends, visible + 2 * plan.tokens);
  }
  kernel(pointer);
}

/** Where in scratch memory everything lies, in bytes from its start. The parameters come first. */
function layOutScratch(plan: PartialAttentionPlan, kvHeads: number, keepsVisible: boolean) {
  const keyColumns = Math.ceil(plan.keyDim / 4) * 4;
  const valueColumns = Math.ceil(plan.valueDim / 4) * 4;
  const columns = Math.max(keyColumns, valueColumns, 4);
  const tileKeys = Math.min(MAX_TILE_KEYS, Math.max(16, Math.floor(TILE_ELEMENTS / columns / 4) * 4));
  const maxRows = Math.min(MAX_ROWS, plan.tokens * plan.queryHeads);
  let bytes = 0;
  const take = (size: number): number => {
    const offset = bytes;
    bytes += Math.ceil(size / 64) * 64;
    return offset;
  };
  take(ATTENTION_TABLE.words * 4);
  const offsets = {
    visible: take(keepsVisible ? plan.tokens * 12 : 0),
    keyScales: take((plan.keyScales?.length ?? 0) * 4),
    valueScales: take((plan.valueScales?.length ?? 0) * 4),
    sinks: take(plan.sinks === undefined ? 0 : plan.queryHeads * 4),
    query: take(maxRows * keyColumns * 4),
    out: take(maxRows * valueColumns * 4),
    scores: take(maxRows * SCORE_STRIDE),
    state: take(maxRows * 20),
    spread: take(4 * SPREAD_STRIDE + 4 * valueColumns * 4),
    pointers: take(tileKeys * 20),
    tile: take(Math.min(kvHeads, MAX_TILE_HEADS + 1) * tileKeys * columns * 4),
  };
  return { bytes, maxRows, tileKeys, offsets };
}
