import { expectHeapTensor } from "../../operand.ts";
import { copyRaw } from "../../reference/raw-elements.ts";
import { checkGatherKvCache, type GatherKvCacheArgs } from "./index.ts";

/** gatherKvCache, row by row. */
export function gatherKvCacheReference(args: GatherKvCacheArgs): void {
  checkGatherKvCache(args);
  const cache = expectHeapTensor("gatherKvCache", "cache", args.cache);
  const rows = expectHeapTensor("gatherKvCache", "rows", args.rows);
  const blockSize = cache.dim(1);
  for (let row = 0; row < args.slots.length; row++) {
    const slot = args.slots[row] ?? 0;
    copyRaw(cache.select(0, Math.floor(slot / blockSize)).select(0, slot % blockSize), rows.select(0, row));
  }
}
