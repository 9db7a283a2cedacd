import { brief } from "./agreed-options.ts";
import type { ResolvedOptions } from "./resolved-options.ts";

/** What decides the meaning of a rank's KV cache, by names: caches of the same layout can hold each other's blocks. */
export type CacheLayout = Readonly<Record<string, string | number | boolean>>;

/** The layout of the cache that options describe. */
export function cacheLayout({ model, cache, groups }: ResolvedOptions): CacheLayout {
  const { layers, kvHeads, headDim, valueDim, mla } = model;
  const { index, count, interleave, weights } = groups.shard;
  const scales = cache.scales.flatMap(({ keyScale = [], valueScale = [] }) => {
    return [...Array.from(keyScale), ...Array.from(valueScale)];
  });
  const given = brief(scales);
  const kvScales = cache.hasRowScales ? "per-token" : typeof given === "string" ? given : given.join(" ");
  const { dtype: kvDtype, blockSize } = cache;
  const shape = { layers, kvHeads, headDim, valueDim, mla, kvDtype, kvScales, blockSize, interleave };
  return { ...shape, dcp: count, dcpRank: index, ...(weights === undefined ? {} : { weights: weights.join(" ") }) };
}
