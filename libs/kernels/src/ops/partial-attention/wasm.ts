import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../../context.ts";
import { expectHeapTensor } from "../../operand.ts";
import { dtypeCode, type WasmKernels } from "../../wasm/wasm-kernels.ts";
import { type PartialAttentionArgs, type PartialAttentionPlan, planPartialAttention } from "./index.ts";

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
export function partialAttentionWasm(kernels: WasmKernels, context: KernelContext, args: PartialAttentionArgs): void {
  const plan = planPartialAttention(args);
  const name = "partialAttention";
  const { heap } = kernels;
  const query = expectHeapTensor(name, "query", args.query, heap);
  const keyCache = expectHeapTensor(name, "keyCache", args.keyCache, heap);
  const valueCache = expectHeapTensor(name, "valueCache", args.valueCache, heap);
  const blockTable = expectHeapTensor(name, "blockTable", plan.table.tensor, heap);
  const out = expectHeapTensor(name, "out", args.out, heap);
  const lse = expectHeapTensor(name, "lse", args.lse, heap);
  const [keyRowScales, valueRowScales] = (["keyScaleCache", "valueScaleCache"] as const).map((argument) => {
    const scales = args[argument];
    return scales === undefined ? undefined : expectHeapTensor(name, argument, scales, heap);
  });
  if (plan.tokens === 0 || plan.queryHeads === 0) return;
  const kernel = context.get(`${name} ${keyCache.dtype}`, () => kernels.kernel(`${name}_${keyCache.dtype}`));
  const { bytes, maxRows, tileKeys, offsets } = layOutScratch(plan, keyCache.dim(2));
  const { pointer, ints, floats } = kernels.reserve(bytes);
  let at = 0;
  const put = (...words: number[]): void => {
    for (const word of words) ints[at++] = word;
  };
  const putFloat = (value: number): void => {
    floats[at++] = value;
  };
  put(query.byteOffset, ...byteStrides(query), dtypeCode(query));
  put(keyCache.byteOffset, ...byteStrides(keyCache).slice(0, 3));
  put(valueCache.byteOffset, ...byteStrides(valueCache).slice(0, 3));
  put(blockTable.byteOffset, ...byteStrides(blockTable));
  const visibleAt = plan.planned?.byteOffset ?? pointer + offsets.visible;
  put(visibleAt, visibleAt + plan.tokens * 4, visibleAt + plan.tokens * 8);
  put(plan.tokens, plan.queryHeads, plan.keyDim, plan.valueDim, plan.blockSize);
  put(plan.headGroup.size, plan.headGroup.offset);
  putFloat(plan.scale * Math.LOG2E);
  putFloat(plan.softcap * Math.LOG2E);
  put(out.byteOffset, ...byteStrides(out));
  put(lse.byteOffset, ...byteStrides(lse));
  put(maxRows, tileKeys, pointer + offsets.query, pointer + offsets.out, pointer + offsets.scores);
  put(pointer + offsets.state, pointer + offsets.pointers, pointer + offsets.tile);
  put(0, plan.sinks === undefined ? 0 : pointer + offsets.sinks);
  if (plan.sinks !== undefined)
    floats.set(
      Array.from(plan.sinks, (sink) => sink * Math.LOG2E),
      offsets.sinks >> 2,
    );
  for (const [scales, offset] of [
    [plan.keyScales, offsets.keyScales],
    [plan.valueScales, offsets.valueScales],
  ] as const) {
    put(scales === undefined ? 0 : pointer + offset);
    if (scales !== undefined) floats.set(scales, offset >> 2);
  }
  put(pointer + offsets.spread);
  for (const scales of [keyRowScales, valueRowScales]) {
    if (scales === undefined) put(0, 0, 0, 0);
    else put(scales.byteOffset, ...byteStrides(scales).slice(0, 3));
  }
  if (plan.planned === undefined) {
    const visible = offsets.visible >> 2;
    ints.set(plan.sequences, visible);
    ints.set(plan.starts, visible + plan.tokens);
    ints.set(plan.ends, visible + 2 * plan.tokens);
  }
  kernel(pointer);
}

function byteStrides(tensor: Tensor): number[] {
  return tensor.strides.map((stride) => stride * DTYPE_BYTES[tensor.dtype]);
}

/** Where in scratch memory everything lies, in bytes from its start. The parameters come first. */
function layOutScratch(plan: PartialAttentionPlan, kvHeads: number) {
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
  take(256);
  const offsets = {
    visible: take(plan.planned === undefined ? plan.tokens * 12 : 0),
    keyScales: take((plan.keyScales?.length ?? 0) * 4),
    valueScales: take((plan.valueScales?.length ?? 0) * 4),
    sinks: take(plan.sinks === undefined ? 0 : plan.queryHeads * 4),
    query: take(maxRows * keyColumns * 4),
    out: take(maxRows * valueColumns * 4),
    scores: take(maxRows * SCORE_STRIDE),
    state: take(maxRows * 20),
    spread: take(4 * SPREAD_STRIDE),
    pointers: take(tileKeys * 20),
    tile: take(Math.min(kvHeads, MAX_TILE_HEADS + 1) * tileKeys * columns * 4),
  };
  return { bytes, maxRows, tileKeys, offsets };
}
