import { DTYPE_BYTES } from "@lockstep/tensor";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { assembleWgsl, type RawBytes, rawOperand } from "../../webgpu/wgsl-operands.ts";
import type { GatherKvCacheArgs } from "./index.ts";
import { GATHER_KV_CACHE_WGSL } from "./gather-kv-cache.wgsl.ts";

const PARAMS = new ParamTable(GATHER_KV_CACHE_WGSL, [
  "units",
  "workgroups",
  "rowsFirst",
  "cacheFirst",
  "blockStride",
  "slotStride",
  "headStride",
]);
const THREADS = 256;

/** Records gatherKvCache. `args` have been checked. */
export function recordGatherKvCache(recorder: Recorder, { cache, slots, rows }: GatherKvCacheArgs): void {
  const [, blockSize = 1, heads = 0, dim = 0] = cache.shape;
  if (slots.length * heads * dim === 0) return;
  const slotRegion = recorder.words(slots);
  const cacheRegion = recorder.read(cache);
  const rowsRegion = recorder.write(rows);
  const [blockStride = 0, slotStride = 0, headStride = 0] = cacheRegion.strides;
  const places = [dim, rowsRegion.first, cacheRegion.first, blockStride, slotStride, headStride];
  const width = DTYPE_BYTES[cache.dtype];
  const bytes = widestMove(places.map((place) => place * width));
  const unit = bytes / width;
  const units = (slots.length * heads * dim) / unit;
  const constants = { THREADS, HEADS: heads, ROW_UNITS: dim / unit, BLOCK_SIZE: blockSize };
  const kernel = recorder.kernel({
    key: `gather-kv-cache ${bytes} bytes H${heads} D${dim / unit} bs${blockSize}`,
    entryPoint: "gather_kv_cache",
    bindings: ["uniform", "read", "read", "write"],
    wgsl: () =>
      assembleWgsl(GATHER_KV_CACHE_WGSL, constants, [
        rawOperand("cache", 2, bytes, "read"),
        rawOperand("rows", 3, bytes, "write"),
      ]),
  });
  const workgroups = Math.ceil(units / THREADS);
  const params = recorder.uniform(
    PARAMS.pack({
      units,
      workgroups,
      rowsFirst: rowsRegion.first / unit,
      cacheFirst: cacheRegion.first / unit,
      blockStride: blockStride / unit,
      slotStride: slotStride / unit,
      headStride: headStride / unit,
    }),
  );
  recorder.dispatch(kernel, [params, slotRegion, cacheRegion, rowsRegion], workgroups);
}

/** The most bytes that can be moved at once when everything lies at these byte offsets. */
export function widestMove(places: readonly number[]): RawBytes {
  return ([16, 4, 2, 1] as const).find((bytes) => places.every((place) => place % bytes === 0)) ?? 1;
}
