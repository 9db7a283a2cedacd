import { ArgumentError, describe, formatShape } from "@lockstep/tensor";
import { expectArguments, expectDType, expectList, expectShape, FLOATS, type Operand } from "../../operand.ts";
import { expectApart, expectWritable } from "../../overlapping-operands.ts";
import { checkScale, isQuantised, KV_DTYPES, type KvScale } from "../../quantised-kv.ts";

/**
 * Scatters the keys and values of new tokens into a paged KV cache. Token t goes to block
 * floor(slot / blockSize), offset slot mod blockSize; slot -1 means "not stored here" and is skipped. Values are
 * rounded to the cache's dtype, to nearest, ties to even. Nothing else in the cache changes.
 *
 * A quantised cache (f8e4m3, i8) stores x times the f32 number nearest to 1 / scale, the product rounded to f32 and then to
 * the cache's dtype, to nearest, ties to even, saturating; a product that is NaN or
 * infinite becomes NaN in f8e4m3. i8 has no NaN: it stores 0, and infinities saturate, so callers look first (`DcpAttention` does). Rows that
 * come in the cache's own dtype are moved as they are, bit for bit, and take no scales.
 * Source: `reshape_and_cache` of vLLM.
 */
export interface WriteKvCacheArgs {
  /** Keys [T, Hkv, Dk], f32, f16, bf16 or of keyCache's dtype, any strides. */
  readonly key: Operand;
  /** Values [T, Hkv, Dv] of key's dtype. Left out for MLA, whose values are columns of the keys. */
  readonly value?: Operand;
  /** Slot of each of the T tokens, or -1. No slot may occur twice. */
  readonly slotMapping: ArrayLike<number>;
  /** Key cache [numBlocks, blockSize, Hkv, Dk], f32, f16, bf16, f8e4m3 or i8; the last dimension has stride 1. */
  readonly keyCache: Operand;
  /** Value cache [numBlocks, blockSize, Hkv, Dv] of keyCache's dtype, apart from it. Left out together with `value`. */
  readonly valueCache?: Operand;
  /** What an element of a quantised keyCache is worth: one scale, or one per KV head. Left out for others. */
  readonly keyScale?: KvScale;
  /** The same of valueCache. */
  readonly valueScale?: KvScale;
}

/** What every backend needs to know besides the arguments, after the checks. */
export interface WriteKvCachePlan {
  /** Factor on each head's keys and values before they are rounded; undefined when they are only moved or rounded. */
  readonly keyFactors: Float32Array | undefined;
  readonly valueFactors: Float32Array | undefined;
}

/** Throws ArgumentError unless the arguments fit the contract; returns what to compute. */
export function checkWriteKvCache(args: WriteKvCacheArgs): WriteKvCachePlan {
  const name = "writeKvCache";
  expectArguments(name, args);
  const { key, value, slotMapping, keyCache, valueCache } = args;
  expectShape(name, "key", key, [null, null, null]);
  expectShape(name, "keyCache", keyCache, [null, null, null, null]);
  expectList(name, "slotMapping", slotMapping);
  const { dtype } = keyCache;
  expectDType(name, "keyCache", keyCache, KV_DTYPES);
  expectDType(name, "key", key, isQuantised(dtype) ? [...FLOATS, dtype] : FLOATS);
  const [tokens = 0, heads = 0, keyDim = 0] = key.shape;
  expectShape(name, "keyCache", keyCache, [null, null, heads, keyDim]);
  expectUnitStride(name, "keyCache", keyCache);
  const [numBlocks = 0, blockSize = 0] = keyCache.shape;
  if ((value === undefined) !== (valueCache === undefined)) {
    throw new ArgumentError(name, "value, valueCache", "both given or both left out", "only one of them given");
  }
  if (value !== undefined && valueCache !== undefined) {
    expectShape(name, "value", value, [tokens, heads, null]);
    expectDType(name, "value", value, [key.dtype]);
    expectShape(name, "valueCache", valueCache, [numBlocks, blockSize, heads, value.shape[2] ?? 0]);
    expectDType(name, "valueCache", valueCache, [keyCache.dtype]);
    expectUnitStride(name, "valueCache", valueCache);
  }
  checkSlots(name, slotMapping, tokens, numBlocks * blockSize);
  expectWritable(name, "keyCache", keyCache);
  expectApart(name, "keyCache", keyCache, "key", key);
  if (value !== undefined && valueCache !== undefined) {
    expectWritable(name, "valueCache", valueCache);
    expectApart(name, "keyCache", keyCache, "value", value);
    expectApart(name, "valueCache", valueCache, "key", key);
    expectApart(name, "valueCache", valueCache, "value", value);
    expectApart(name, "valueCache", valueCache, "keyCache", keyCache);
  }
  return {
    keyFactors: factors(name, "keyScale", args.keyScale, key, "keyCache", keyCache),
    valueFactors:
      value === undefined || valueCache === undefined
        ? undefined
        : factors(name, "valueScale", args.valueScale, value, "valueCache", valueCache),
  };
}

function factors(
  name: string,
  argument: string,
  scale: KvScale | undefined,
  rows: Operand,
  cacheName: string,
  cache: Operand,
): Float32Array | undefined {
  if (isQuantised(cache.dtype) && rows.dtype === cache.dtype) {
    if (scale === undefined) return undefined;
    throw new ArgumentError(name, argument, `left out for rows that are ${rows.dtype} already`, "given");
  }
  return checkScale(name, argument, scale, cacheName, cache)?.map((value) => 1 / value);
}

function checkSlots(name: string, slotMapping: ArrayLike<number>, tokens: number, slots: number): void {
  if (slotMapping.length !== tokens) {
    throw new ArgumentError(name, "slotMapping", `${tokens} slots, one per token of key`, String(slotMapping.length));
  }
  const seen = new Set<number>();
  for (let token = 0; token < tokens; token++) {
    const slot = slotMapping[token] ?? -2;
    if (!Number.isInteger(slot) || slot < -1 || slot >= slots) {
      throw new ArgumentError(
        name,
        "slotMapping",
        `-1 or from 0 to ${slots - 1}`,
        `${describe(slot)} at index ${token}`,
      );
    }
    if (slot >= 0 && seen.has(slot)) {
      throw new ArgumentError(name, "slotMapping", "slots that differ", `${slot} twice`);
    }
    seen.add(slot);
  }
}

/** Throws unless the last dimension of a cache has stride 1. */
export function expectUnitStride(operation: string, argument: string, cache: Operand): void {
  if ((cache.shape[3] ?? 0) > 1 && cache.strides[3] !== 1) {
    throw new ArgumentError(operation, argument, "of stride 1 in its last dimension", formatShape(cache.strides));
  }
}
