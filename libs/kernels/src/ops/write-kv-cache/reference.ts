import type { Tensor } from "@lockstep/tensor";
import { expectHeapTensor } from "../../operand.ts";
import { checkWriteKvCache, type WriteKvCacheArgs } from "./index.ts";

/** writeKvCache, token by token. */
export function writeKvCacheReference(args: WriteKvCacheArgs): void {
  checkWriteKvCache(args);
  const name = "writeKvCache";
  const key = expectHeapTensor(name, "key", args.key);
  const keyCache = expectHeapTensor(name, "keyCache", args.keyCache);
  const value = args.value === undefined ? undefined : expectHeapTensor(name, "value", args.value);
  const valueCache = args.valueCache === undefined ? undefined : expectHeapTensor(name, "valueCache", args.valueCache);
  scatter(key, args.slotMapping, keyCache);
  if (value !== undefined && valueCache !== undefined) scatter(value, args.slotMapping, valueCache);
}

function scatter(rows: Tensor, slotMapping: ArrayLike<number>, cache: Tensor): void {
  const blockSize = cache.dim(1);
  for (let token = 0; token < rows.dim(0); token++) {
    const slot = slotMapping[token] ?? -1;
    if (slot < 0) continue;
    const place = cache.select(0, Math.floor(slot / blockSize)).select(0, slot % blockSize);
    place.set(rows.select(0, token).toNumbers());
  }
}
