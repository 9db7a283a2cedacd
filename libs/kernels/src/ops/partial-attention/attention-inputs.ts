// What every op of attention reads: queries, a paged KV cache, the step that says who sees what, and how scores are made.
import { ArgumentError, type DType, describe, type Tensor } from "@lockstep/tensor";
import type { PagedCacheSize } from "../../kv/paged-cache-size.ts";
import { checkScale, KV_DTYPES, type KvScale } from "../../kv/quantised-kv.ts";
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
import { expectUnitStride } from "../write-kv-cache/index.ts";
import {
  type AttentionPlan,
  type AttentionStep,
  type BlockTable,
  checkAttentionStep,
  type VisibleKeys,
  visibleOfPlan,
} from "./attention-plan.ts";
import { checkScoreFactor, checkSink, checkSoftcap } from "./score-numbers.ts";

/** What attention reads, and how scores are made of it, on one layer. */
export interface AttentionInputs {
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
}

/** A step that is checked in the call. */
export interface UnplannedStep extends AttentionStep {
  /** Left out. */
  readonly plan?: undefined;
}

/** A step that was checked before, by `planAttention`. */
export interface PlannedStep extends Partial<Record<keyof AttentionStep, undefined>> {
  /** The step. */
  readonly plan: AttentionPlan;
}

/** Who sees what. */
export type StepOfAttention = UnplannedStep | PlannedStep;

/** What every backend computes from, after the checks. */
export interface AttentionInputPlan {
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
}

const QUERY_DTYPES: readonly DType[] = [...FLOATS, "f8e4m3"];

/** Throws ArgumentError unless the inputs fit the contract; returns what to compute. */
export function planAttentionInputs(name: string, args: AttentionInputs & StepOfAttention): AttentionInputPlan {
  expectArguments(name, args);
  const { query, keyCache, valueCache } = args;
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
  const sizes = { tokens, queryHeads, kvHeads, keyDim, valueDim, blockSize, headGroup };
  const visible = { sequences, starts, ends, table, planned: args.plan };
  return { ...sizes, scale, softcap, ...visible, sinks, keyScales, valueScales };
}

const STEP_ARGUMENTS = ["blockTable", "sequences", "positions", "shard", "segments", "window"] as const;

/** What the query tokens see, by the plan or by what is checked now. */
export function visibleKeys(name: string, args: StepOfAttention, tokens: number, size: PagedCacheSize): VisibleKeys {
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

/** Throws ArgumentError unless what is written lies apart from what is read, and from all else that is written. */
export function expectApartFromInputs(
  name: string,
  results: Readonly<Record<string, Operand>>,
  args: AttentionInputs,
  blockTable: Tensor,
): void {
  const { query, keyCache, valueCache, keyScaleCache, valueScaleCache, sinks } = args;
  const inputs = { query, keyCache, valueCache, blockTable, keyScaleCache, valueScaleCache, sinks };
  const written = Object.entries(results);
  for (const [index, [argument, result]] of written.entries()) {
    expectWritable(name, argument, result);
    for (const [other, otherResult] of written.slice(0, index)) expectApart(name, argument, result, other, otherResult);
    for (const [input, operand] of Object.entries(inputs)) {
      if (operand !== undefined) expectApart(name, argument, result, input, operand);
    }
  }
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
