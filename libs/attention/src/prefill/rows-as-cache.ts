import type { AttentionOperands } from "@lockstep/kernels";
import type { Tensor } from "@lockstep/tensor";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { ModelShape } from "../options/resolved-options.ts";
import type { Pair, RankRows } from "./chunk-rows.ts";

/** A KV cache and what its elements are worth, as the ops of attention take them. */
export type CacheOperands = Pick<
  AttentionOperands,
  "keyCache" | "valueCache" | "keyScale" | "valueScale" | "keyScaleCache" | "valueScaleCache"
>;

/** Rows [from, to) of what a rank adds to a chunk, as a cache of one block. */
export function rowsAsCache(
  { mla, valueDim }: ModelShape,
  caches: KvCaches,
  layer: number,
  { elements, scales }: RankRows,
  from: number,
  to: number,
): CacheOperands {
  const block = ({ key, value }: Pair<Tensor>): { readonly keys: Tensor; readonly values: Tensor } => {
    const keys = key.slice(0, from, to).unsqueeze(0);
    return { keys, values: value === undefined ? keys : value.slice(0, from, to).unsqueeze(0) };
  };
  const { keys, values } = block(elements);
  const cache = { keyCache: keys, valueCache: mla ? keys.slice(3, 0, valueDim) : values };
  if (scales === undefined) return { ...cache, ...caches.scales(layer) };
  const rowScales = block(scales);
  return { ...cache, keyScaleCache: rowScales.keys, valueScaleCache: rowScales.values };
}
