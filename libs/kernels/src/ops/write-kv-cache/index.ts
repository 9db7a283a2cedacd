import { ArgumentError, formatShape } from "@lockstep/tensor";
import { expectArguments, expectDType, expectShape, FLOATS, type Operand } from "../../operand.ts";
import { expectApart, expectWritable } from "../../overlapping-operands.ts";
import { checkScale, isQuantised, KV_DTYPES, type KvScale } from "../../kv/quantised-kv.ts";
import { type SlotPlan, slotsOf } from "./slot-plan.ts";

/**
 * Scatters the keys and values of new tokens into a paged KV cache. Token t goes to block
 * floor(slot / blockSize), offset slot mod blockSize; slot -1 means "not stored here" and is skipped. Values are
 * rounded to the cache's dtype, to nearest, ties to even. Nothing else in the cache changes.
 *
 * A quantised cache (f8e4m3, i8) stores x times the f32 number nearest to 1 / scale, the product rounded to f32 and
 * then to the cache's dtype, to nearest, ties to even, saturating; a product that is NaN or infinite becomes NaN in
 * f8e4m3. i8 has no NaN: it stores 0, and infinities saturate, so callers look first (`DcpAttention` does). Rows that
 * come in the cache's own dtype are moved as they are, bit for bit, and take no scales.
 *
 * With `keyScaleCache` and `valueScaleCache` every row (a token and KV head) has a scale of its own, which is found
 * here and stored beside it: the row's largest finite magnitude divided by 448 (f8e4m3) or 127 (i8), rounded toward 0
 * in f32; at least 2^-100. A row of zeros stands for zeros. Rows whose scales are known are moved with two calls: the
 * elements, then the scales as a cache of f32 rows of one column.
 * Source: `reshape_and_cache` of vLLM.
 */
export interface WriteKvCacheArgs {
  /** Keys [T, Hkv, Dk], f32, f16, bf16 or of keyCache's dtype, any strides. */
  readonly key: Operand;
  /** Values [T, Hkv, Dv] of key's dtype. Left out for MLA, whose values are columns of the keys. */
  readonly value?: Operand;
  /**
   * Slot of each of the T tokens, or -1, no slot twice; or such slots that were checked before, once for all layers.
   */
  readonly slotMapping: ArrayLike<number> | SlotPlan;
  /** Key cache [numBlocks, blockSize, Hkv, Dk], f32, f16, bf16, f8e4m3 or i8; the last dimension has stride 1. */
  readonly keyCache: Operand;
  /** Value cache [numBlocks, blockSize, Hkv, Dv] of keyCache's dtype, apart from it. Left out together with `value`. */
  readonly valueCache?: Operand;
  /** What an element of a quantised keyCache is worth: one scale, or one per KV head. Left out for others. */
  readonly keyScale?: KvScale;
  /** The same of valueCache. */
  readonly valueScale?: KvScale;
  /**
   * Where the scale of every row of a quantised keyCache goes [numBlocks, blockSize, Hkv, 1], f32; instead of keyScale.
   */
  readonly keyScaleCache?: Operand;
  /** The same of valueCache. Given or left out like keyScaleCache. */
  readonly valueScaleCache?: Operand;
}

/** What every backend needs to know besides the arguments, after the checks. */
export interface WriteKvCachePlan {
  /** Slot of each token, or -1. */
  readonly slots: ArrayLike<number>;
  /**
   * Factor on each head's keys and values before they are rounded; undefined when they are only moved or rounded, or
   * rows have scales.
   */
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
  const plan = {
    slots: slotsOf(name, slotMapping, tokens, { numBlocks, blockSize }),
    keyFactors: factors(name, "keyScale", args.keyScale, key, "keyCache", keyCache, args.keyScaleCache),
    valueFactors:
      value === undefined || valueCache === undefined
        ? undefined
        : factors(name, "valueScale", args.valueScale, value, "valueCache", valueCache, args.valueScaleCache),
  };
  if ((args.valueScaleCache !== undefined) !== (value !== undefined && args.keyScaleCache !== undefined)) {
    const expected = value === undefined ? "left out without values" : "given or left out like `keyScaleCache`";
    const received = args.valueScaleCache === undefined ? "left out" : "given";
    throw new ArgumentError(name, "valueScaleCache", expected, received);
  }
  checkPlaces(name, args);
  return plan;
}

/** Nothing that is written may overlap anything else. */
function checkPlaces(name: string, args: WriteKvCacheArgs): void {
  for (const argument of WRITTEN) {
    const operand = args[argument];
    if (operand === undefined) continue;
    expectWritable(name, argument, operand);
    expectApart(name, argument, operand, "key", args.key);
    if (args.value !== undefined) expectApart(name, argument, operand, "value", args.value);
    for (const earlier of WRITTEN) {
      if (earlier === argument) break;
      const other = args[earlier];
      if (other !== undefined) expectApart(name, argument, operand, earlier, other);
    }
  }
}

const WRITTEN = ["keyCache", "valueCache", "keyScaleCache", "valueScaleCache"] as const;

function factors(
  name: string,
  argument: string,
  scale: KvScale | undefined,
  rows: Operand,
  cacheName: string,
  cache: Operand,
  scaleCache: Operand | undefined,
): Float32Array | undefined {
  if (isQuantised(cache.dtype) && rows.dtype === cache.dtype) {
    if (scale === undefined && scaleCache === undefined) return undefined;
    const given = scale === undefined ? `${argument}Cache` : argument;
    throw new ArgumentError(name, given, `left out for rows that are ${rows.dtype} already`, "given");
  }
  return checkScale(name, argument, scale, cacheName, cache, scaleCache)?.map((value) => 1 / value);
}

/** Throws unless the last dimension of a cache has stride 1. */
export function expectUnitStride(operation: string, argument: string, cache: Operand): void {
  if ((cache.shape[3] ?? 0) > 1 && cache.strides[3] !== 1) {
    throw new ArgumentError(operation, argument, "of stride 1 in its last dimension", formatShape(cache.strides));
  }
}
