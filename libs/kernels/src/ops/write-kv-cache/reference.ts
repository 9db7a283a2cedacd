import type { Tensor } from "@lockstep/tensor";
import { expectHeapTensor, type Operand } from "../../operand.ts";
import { copyRaw } from "../../reference/raw-elements.ts";
import { rowScale } from "../../kv/row-scales.ts";
import { checkWriteKvCache, type WriteKvCacheArgs } from "./index.ts";

/** writeKvCache, token by token. */
export function writeKvCacheReference(args: WriteKvCacheArgs): void {
  const { slots, keyFactors, valueFactors } = checkWriteKvCache(args);
  const name = "writeKvCache";
  const key = expectHeapTensor(name, "key", args.key);
  const keyCache = expectHeapTensor(name, "keyCache", args.keyCache);
  const value = args.value === undefined ? undefined : expectHeapTensor(name, "value", args.value);
  const valueCache = args.valueCache === undefined ? undefined : expectHeapTensor(name, "valueCache", args.valueCache);
  scatter(key, slots, keyCache, keyFactors, scales("keyScaleCache", args.keyScaleCache));
  if (value === undefined || valueCache === undefined) return;
  scatter(value, slots, valueCache, valueFactors, scales("valueScaleCache", args.valueScaleCache));
}

function scales(argument: string, cache: Operand | undefined): Tensor | undefined {
  return cache === undefined ? undefined : expectHeapTensor("writeKvCache", argument, cache);
}

function scatter(
  rows: Tensor,
  slotMapping: ArrayLike<number>,
  cache: Tensor,
  factors: Float32Array | undefined,
  scaleCache: Tensor | undefined,
): void {
  const blockSize = cache.dim(1);
  for (let token = 0; token < rows.dim(0); token++) {
    const slot = slotMapping[token] ?? -1;
    if (slot < 0) continue;
    const place = cache.select(0, Math.floor(slot / blockSize)).select(0, slot % blockSize);
    const row = rows.select(0, token);
    if (scaleCache !== undefined) {
      const places = scaleCache.select(0, Math.floor(slot / blockSize)).select(0, slot % blockSize);
      for (let head = 0; head < rows.dim(1); head++) {
        const numbers = row.select(0, head).toNumbers();
        const scale = rowScale(cache.dtype, numbers);
        places.select(0, head).fill(scale);
        storeScaled(numbers, Math.fround(1 / scale), place.select(0, head));
      }
      continue;
    }
    if (factors === undefined) {
      if (row.dtype === place.dtype) copyRaw(row, place);
      else place.set(row.toNumbers());
      continue;
    }
    for (let head = 0; head < rows.dim(1); head++) {
      storeScaled(row.select(0, head).toNumbers(), factors[head] ?? 0, place.select(0, head));
    }
  }
}

function storeScaled(row: Float64Array, factor: number, place: Tensor): void {
  const scaled = row.map((x) => Math.fround(x * factor));
  place.set(place.dtype === "i8" ? scaled.map(roundedToI8) : scaled);
}

/** Nearest integer from -128 to 127, ties to even; 0 for NaN. */
function roundedToI8(value: number): number {
  if (Number.isNaN(value)) return 0;
  const floor = Math.floor(value);
  const isUp = value - floor > 0.5 || (value - floor === 0.5 && floor % 2 !== 0);
  return Math.min(127, Math.max(-128, isUp ? floor + 1 : floor));
}
