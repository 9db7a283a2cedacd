import { ArgumentError, describe } from "@lockstep/tensor";
import { expectArguments, expectDType, expectList, expectShape, type Operand } from "../../operand.ts";
import { expectApart } from "../../overlapping-operands.ts";
import { KV_DTYPES } from "../../kv/quantised-kv.ts";
import { expectUnitStride } from "../write-kv-cache/index.ts";

/**
 * Reads rows of a paged KV cache in the order given: row t is block floor(slot / blockSize), offset slot mod blockSize.
 * Every element is moved bit for bit, whatever it stands for; writeKvCache with the same slots is the inverse.
 * Source: `cp_gather_cache` of vLLM.
 */
export interface GatherKvCacheArgs {
  /** [numBlocks, blockSize, Hkv, D], f32, f16, bf16, f8e4m3 or i8; the last dimension has stride 1. */
  readonly cache: Operand;
  /** Slot of each of the T rows, from 0; a slot may occur several times. */
  readonly slots: ArrayLike<number>;
  /** [T, Hkv, D] of the cache's dtype, contiguous. Must not overlap the cache. */
  readonly rows: Operand;
}

/** Throws ArgumentError unless the arguments fit the contract. */
export function checkGatherKvCache(args: GatherKvCacheArgs): void {
  const name = "gatherKvCache";
  expectArguments(name, args);
  const { cache, slots, rows } = args;
  expectList(name, "slots", slots);
  expectShape(name, "cache", cache, [null, null, null, null]);
  expectDType(name, "cache", cache, KV_DTYPES);
  expectUnitStride(name, "cache", cache);
  const [numBlocks = 0, blockSize = 0, heads = 0, dim = 0] = cache.shape;
  expectShape(name, "rows", rows, [slots.length, heads, dim]);
  expectDType(name, "rows", rows, [cache.dtype]);
  if (!rows.isContiguous) throw new ArgumentError(name, "rows", "contiguous", rows.toString());
  const most = numBlocks * blockSize;
  for (let row = 0; row < slots.length; row++) {
    const slot = slots[row] ?? -1;
    if (!Number.isInteger(slot) || slot < 0 || slot >= most) {
      throw new ArgumentError(name, "slots", `from 0 to ${most - 1}`, `${describe(slot)} at index ${row}`);
    }
  }
  expectApart(name, "rows", rows, "cache", cache);
}
