import { ArgumentError, type DType, describe, type Tensor } from "@lockstep/tensor";
import {
  expectArguments,
  expectDType,
  expectInteger,
  expectList,
  expectShape,
  expectTensor,
  FLOATS,
  type Operand,
} from "../../operand.ts";
import { expectApart, expectWritable } from "../../overlapping-operands.ts";
import type { PagedCacheSize } from "../../kv/paged-cache-size.ts";
import { checkScale, KV_DTYPES, type KvScale } from "../../kv/quantised-kv.ts";
import { expectUnitStride } from "../write-kv-cache/index.ts";
import {
  type AttentionPlan,
  type AttentionStep,
  type BlockTable,
  checkAttentionStep,
  type VisibleKeys,
  visibleOfPlan,
} from "./attention-plan.ts";
import { checkContinuedSums, type ContinuedSums } from "./continued-sums.ts";
import { expectApartOrInOwnSums } from "./results-in-sums.ts";
import { checkScoreFactor, checkSink, checkSoftcap } from "./score-numbers.ts";

/**
 * Attention of some query tokens over the part of their sequences' keys that one shard of a paged KV cache holds,
 * with the log-sum-exp that lets partial results be merged exactly.
 *
 * For query token t (sequence b, position p) and head h, over the stored positions k with p - window < k <= p: s_k =
 * scale * q.key_k, then softcap * tanh(s_k / softcap) if a softcap is given; lse = ln(sum_k exp(s_k)); out = sum_k
 * exp(s_k - lse) * value_k. No visible key gives out 0 and lse -inf. Arithmetic in f32; on a GPU's matrix units (an f16
 * cache and groups of 4 query heads or more) with weights rounded to f16, a relative error of at most 2^-11 each. Pages
 * and slots that no visible position maps to are never read into the result, whatever they hold.
 *
 * Nothing that is not finite is hidden: a visible key whose score is NaN or infinite in f32 makes the row's out and lse
 * NaN (a softcap bounds an infinite score, so that it is a number, but for f16 caches on matrix units); a value that is
 * not finite makes its column so, however small the key's weight, and leaves lse alone.
 *
 * An attention sink is a logit of its head that joins the denominator like a key whose value is 0: it counts in lse,
 * for every token but padding (position -1). Of the shards of a context exactly one must be given the sinks.
 *
 * Causal masking of several query tokens per sequence follows from their positions: tokens up to each position must
 * have been written before. Source: FlashAttention-2 / flash decoding; vLLM's paged attention for the cache layout.
 */
export type PartialAttentionArgs = UnplannedAttentionArgs | PlannedAttentionArgs;

/** With a step that is checked in this call. */
export interface UnplannedAttentionArgs extends AttentionOperands, AttentionStep {
  /** Left out. */
  readonly plan?: undefined;
}

/** With a step that was checked before, by `planAttention`. */
export interface PlannedAttentionArgs extends AttentionOperands, Partial<Record<keyof AttentionStep, undefined>> {
  /** The step. */
  readonly plan: AttentionPlan;
}

/** What partialAttention reads and writes, and how, on one layer. */
export interface AttentionOperands {
  /** [T, Hq, Dk], f32, f16, bf16 or f8e4m3 (whose scale is to be part of `scale`), any strides. */
  readonly query: Operand;
  /** [numBlocks, blockSize, Hkv, Dk], f32, f16, bf16, f8e4m3 or i8; any strides but 1 in the last dimension. */
  readonly keyCache: Operand;
  /** [numBlocks, blockSize, Hkv, Dv] of keyCache's dtype; for MLA a view of keyCache's first Dv columns. */
  readonly valueCache: Operand;
  /**
   * What an element of a quantised keyCache (f8e4m3, i8) is worth: one scale, or one per KV head. Left out for others.
   */
  readonly keyScale?: KvScale;
  /** The same of valueCache; for MLA the keys' scale again. */
  readonly valueScale?: KvScale;
  /**
   * Instead of keyScale: what an element of each row of a quantised keyCache is worth [numBlocks, blockSize, Hkv, 1],
   * f32.
   */
  readonly keyScaleCache?: Operand;
  /** The same of valueCache, given or left out like keyScaleCache; for MLA the keys' scales again. */
  readonly valueScaleCache?: Operand;
  /** Factor on q.k. Default 1 / sqrt(Dk). */
  readonly scale?: number;
  /** Bounds the scaled scores to (-softcap, softcap). Default: none. */
  readonly softcap?: number;
  /**
   * Which query heads share a KV head: query head h reads KV head floor((h + offset) / size). Default: size = Hq / Hkv,
   * offset 0. Given when `query` holds only some of the heads.
   */
  readonly headGroup?: { readonly size: number; readonly offset: number };
  /** Attention sink of each query head [Hq], f32, in the units of a scaled score; -inf for none. Default: none. */
  readonly sinks?: Tensor;
  /**
   * Sums that go on from call to call; not on backends without a `sumsWidth`. Default: the call sums all that it sees.
   */
  readonly sums?: ContinuedSums;
  /** [T, Hq, Dv], f32. Must not overlap the inputs. */
  readonly out: Operand;
  /** Natural-log LSE [T, Hq], f32. Must not overlap the inputs. */
  readonly lse: Operand;
}

/** What every backend computes from, after the checks. */
export interface PartialAttentionPlan {
  readonly tokens: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  readonly blockSize: number;
  readonly headGroup: { readonly size: number; readonly offset: number };
  readonly scale: number;
  /** 0 when there is none. */
  readonly softcap: number;
  /** Row of the block table of each query token, and what it sees: as in {@link VisibleKeys}. */
  readonly sequences: Int32Array;
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly table: BlockTable;
  /** The plan that these came from; undefined when they were checked in this call. */
  readonly planned: AttentionPlan | undefined;
  /** Sinks of the query heads; undefined when there are none. */
  readonly sinks: Float32Array | undefined;
  /** Scale of each KV head; undefined when the caches are not quantised, or their rows have scales. */
  readonly keyScales: Float32Array | undefined;
  readonly valueScales: Float32Array | undefined;
  /** undefined when they begin and end in the call. */
  readonly sums: ContinuedSums | undefined;
}

const QUERY_DTYPES: readonly DType[] = [...FLOATS, "f8e4m3"];

/** Throws ArgumentError unless the arguments fit the contract; returns what to compute. */
export function planPartialAttention(args: PartialAttentionArgs): PartialAttentionPlan {
  const name = "partialAttention";
  expectArguments(name, args);
  const { query, keyCache, valueCache, out, lse } = args;
  expectShape(name, "query", query, [null, null, null]);
  expectDType(name, "query", query, QUERY_DTYPES);
  const [tokens = 0, queryHeads = 0, keyDim = 0] = query.shape;
  expectShape(name, "keyCache", keyCache, [null, null, null, keyDim]);
  expectDType(name, "keyCache", keyCache, KV_DTYPES);
  expectUnitStride(name, "keyCache", keyCache);
  const [numBlocks = 0, blockSize = 0, kvHeads = 0] = keyCache.shape;
  expectInteger(name, "keyCache.shape[1] (block size)", blockSize, 1, 2 ** 20);
  expectShape(name, "valueCache", valueCache, [numBlocks, blockSize, kvHeads, null]);
  expectDType(name, "valueCache", valueCache, [keyCache.dtype]);
  expectUnitStride(name, "valueCache", valueCache);
  const valueDim = valueCache.shape[3] ?? 0;
  expectShape(name, "out", out, [tokens, queryHeads, valueDim]);
  expectDType(name, "out", out, ["f32"]);
  expectShape(name, "lse", lse, [tokens, queryHeads]);
  expectDType(name, "lse", lse, ["f32"]);
  const { keyScaleCache, valueScaleCache } = args;
  const keyScales = checkScale(name, "keyScale", args.keyScale, "keyCache", keyCache, keyScaleCache);
  const valueScales = checkScale(name, "valueScale", args.valueScale, "valueCache", valueCache, valueScaleCache);
  if ((keyScaleCache === undefined) !== (valueScaleCache === undefined)) {
    const received = valueScaleCache === undefined ? "left out" : "given";
    throw new ArgumentError(name, "valueScaleCache", "given or left out like `keyScaleCache`", received);
  }
  const sinks = args.sinks === undefined ? undefined : readSinks(name, args.sinks, queryHeads);
  const headGroup = checkHeadGroup(name, args.headGroup, queryHeads, kvHeads);
  const scale = args.scale ?? 1 / Math.sqrt(Math.max(1, keyDim));
  checkScoreFactor(name, "scale", scale);
  // Kernels take e4m3 numbers as multiples of 1/256.
  const worth = keyCache.dtype === "f8e4m3" ? 256 : 1;
  for (const keyScale of keyScales ?? []) checkScoreFactor(name, "scale times keyScale", scale * keyScale * worth);
  const softcap = args.softcap ?? 0;
  if (args.softcap !== undefined) checkSoftcap(name, args.softcap);
  const { sequences, starts, ends, table } = visibleKeys(name, args, tokens, { numBlocks, blockSize });
  checkOverlap(name, args, table.tensor);
  if (args.sums !== undefined) {
    const { keyScaleCache: keyRows, valueScaleCache: valueRows } = args;
    const caches = { keyCache, valueCache, keyScaleCache: keyRows, valueScaleCache: valueRows };
    checkContinuedSums(name, args.sums, [tokens, queryHeads], { query, ...caches, blockTable: table.tensor });
    expectApartOrInOwnSums(name, "out", out, args.sums.state);
    expectApartOrInOwnSums(name, "lse", lse, args.sums.state);
  }
  const sizes = { tokens, queryHeads, kvHeads, keyDim, valueDim, blockSize, headGroup };
  const visible = { sequences, starts, ends, table, planned: args.plan };
  return { ...sizes, scale, softcap, ...visible, sinks, keyScales, valueScales, sums: args.sums };
}

const STEP_ARGUMENTS = ["blockTable", "sequences", "positions", "shard", "segments", "window"] as const;

/** What the query tokens see, by the plan or by what is checked now. */
function visibleKeys(name: string, args: PartialAttentionArgs, tokens: number, size: PagedCacheSize): VisibleKeys {
  if (args.plan === undefined) {
    for (const argument of ["sequences", "positions"] as const) {
      expectList(name, argument, args[argument]);
      const { length } = args[argument];
      if (length !== tokens) {
        throw new ArgumentError(name, argument, `${tokens} entries, one per query token`, String(length));
      }
    }
    return checkAttentionStep(name, args, size);
  }
  for (const argument of STEP_ARGUMENTS) {
    if (args[argument] === undefined) continue;
    throw new ArgumentError(name, argument, "left out with a plan, which has it", "given");
  }
  const visible = visibleOfPlan(name, args.plan, size);
  if (visible.tokens === tokens) return visible;
  throw new ArgumentError(name, "query", `of ${visible.tokens} tokens, as was planned`, `${tokens}`);
}

/** Nothing that is written may overlap anything else. */
function checkOverlap(name: string, args: PartialAttentionArgs, blockTable: Tensor): void {
  const { query, keyCache, valueCache, sinks, out, lse } = args;
  expectWritable(name, "out", out);
  expectWritable(name, "lse", lse);
  expectApart(name, "lse", lse, "out", out);
  expectApart(name, "out", out, "query", query);
  expectApart(name, "out", out, "keyCache", keyCache);
  expectApart(name, "out", out, "valueCache", valueCache);
  expectApart(name, "out", out, "blockTable", blockTable);
  expectApart(name, "lse", lse, "query", query);
  expectApart(name, "lse", lse, "keyCache", keyCache);
  expectApart(name, "lse", lse, "valueCache", valueCache);
  expectApart(name, "lse", lse, "blockTable", blockTable);
  for (const argument of ["keyScaleCache", "valueScaleCache"] as const) {
    const scales = args[argument];
    if (scales === undefined) continue;
    expectApart(name, "out", out, argument, scales);
    expectApart(name, "lse", lse, argument, scales);
  }
  if (sinks === undefined) return;
  expectApart(name, "out", out, "sinks", sinks);
  expectApart(name, "lse", lse, "sinks", sinks);
}

/** The sinks of the query heads. @throws ArgumentError, UseAfterFree */
export function readSinks(name: string, sinks: Tensor, queryHeads: number): Float32Array {
  expectTensor(name, "sinks", sinks);
  expectShape(name, "sinks", sinks, [queryHeads]);
  expectDType(name, "sinks", sinks, ["f32"]);
  const numbers = Float32Array.from(sinks.toNumbers());
  for (const [head, sink] of numbers.entries()) checkSink(name, `sinks[${head}]`, sink);
  return numbers;
}

function checkHeadGroup(
  name: string,
  given: { readonly size: number; readonly offset: number } | undefined,
  queryHeads: number,
  kvHeads: number,
): { size: number; offset: number } {
  if (given === undefined) {
    if (kvHeads === 0 || queryHeads % kvHeads !== 0) {
      throw new ArgumentError(
        name,
        "query.shape[1]",
        `a multiple of the ${kvHeads} KV heads (or give headGroup)`,
        String(queryHeads),
      );
    }
    return { size: queryHeads / kvHeads, offset: 0 };
  }
  if (typeof given !== "object" || given === null) {
    throw new ArgumentError(name, "headGroup", "an object with size and offset", describe(given));
  }
  const { size, offset } = given;
  expectInteger(name, "headGroup.size", size, 1, 2 ** 20);
  expectInteger(name, "headGroup.offset", offset, 0, 2 ** 20);
  if (queryHeads > 0 && Math.floor((queryHeads - 1 + offset) / size) >= kvHeads) {
    throw new ArgumentError(
      name,
      "headGroup",
      `one that maps ${queryHeads} query heads to ${kvHeads} KV heads`,
      `size ${size}, offset ${offset}`,
    );
  }
  return { size, offset };
}
