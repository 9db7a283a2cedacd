import { float32Bits } from "../../webgpu/float-bits.ts";
import type { Operand } from "../../operand.ts";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import type { Region } from "../../webgpu/region.ts";
import {
  assembleWgsl,
  bitsOperand,
  convertBits,
  type FloatDType,
  floatDType,
  rawOperand,
} from "../../webgpu/wgsl-operands.ts";
import type { WriteKvCacheArgs, WriteKvCachePlan } from "./index.ts";
import { QUANTISE_KV_WGSL } from "./quantise-kv.wgsl.ts";
import { QUANTISE_ROWS_WGSL } from "./quantise-rows.wgsl.ts";
import { PLACES, placesOf, type Scatter, scatterOf, scatterRows } from "./scatter-rows.ts";

const QUANTISE_PARAMS = new ParamTable(QUANTISE_KV_WGSL, ["units", "workgroups", ...PLACES, "tokens"]);
const ROWS_PARAMS = new ParamTable(QUANTISE_ROWS_WGSL, [
  "rows",
  ...PLACES,
  "scaleFirst",
  "scaleBlockStride",
  "scaleSlotStride",
  "scaleHeadStride",
]);
const THREADS = 256;
/** Threads of a row that gets a scale of its own. */
const ROW_THREADS = 64;
/** How scales are found, in the terms of quantise-rows.wgsl. */
const SCALES = { i8: { DIVISOR: 127, SHIFT: 7, DROP: 7 }, f8: { DIVISOR: 7, SHIFT: 3, DROP: 9 } } as const;

/** A call of writeKvCache, and what its check returned. */
export interface CheckedWrite {
  readonly args: WriteKvCacheArgs;
  readonly plan: WriteKvCachePlan;
}

/** Records writeKvCache. `args` have been checked. */
export function recordWriteKvCache(recorder: Recorder, args: WriteKvCacheArgs, plan: WriteKvCachePlan): void {
  recordWritesTogether(recorder, [{ args, plan }]);
}

/**
 * Records writes of which none reads or writes what another writes: rows of one shape that go to the same slots in one
 * dispatch, as far as it can bind them.
 */
export function recordWritesTogether(recorder: Recorder, list: readonly CheckedWrite[]): void {
  const scatters = list.flatMap((write, index) => {
    const before = list.slice(0, index).find(({ plan }) => sameSlots(plan.slots, write.plan.slots));
    return recordWrite(recorder, write, before?.plan.slots ?? write.plan.slots);
  });
  scatterRows(recorder, scatters);
}

function sameSlots(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

/** Records what is quantised; returns the rows that are moved or rounded. */
function recordWrite(recorder: Recorder, { args, plan }: CheckedWrite, slots: ArrayLike<number>): Scatter[] {
  const { key, value, keyCache, valueCache } = args;
  expectContiguousOnGpu("writeKvCache", "key", key);
  if (value !== undefined) expectContiguousOnGpu("writeKvCache", "value", value);
  const { keyFactors, valueFactors } = plan;
  if (args.keyScaleCache !== undefined) {
    const words = recorder.words(slots);
    quantiseByRow(recorder, key, words, keyCache, args.keyScaleCache);
    if (value !== undefined && valueCache !== undefined && args.valueScaleCache !== undefined) {
      quantiseByRow(recorder, value, words, valueCache, args.valueScaleCache);
    }
    return [];
  }
  const scatters: Scatter[] = [];
  const add = (rows: Operand, cache: Operand, factors: Float32Array | undefined): void => {
    if (factors !== undefined) quantiseRows(recorder, rows, plan.slots, cache, factors);
    else if (rows.size > 0) scatters.push(scatterOf(recorder, rows, cache, slots));
  };
  add(key, keyCache, keyFactors);
  if (value !== undefined && valueCache !== undefined) add(value, valueCache, valueFactors);
  return scatters;
}

/** Rows that go to an 8-bit cache: how they lie, and the code that loads, rounds and stores them. */
function eightBit(recorder: Recorder, rows: Operand, cache: Operand) {
  const rowsRegion = recorder.read(rows);
  const cacheRegion = recorder.update(cache);
  const [, heads = 0, dim = 0] = rows.shape;
  const strides = cacheRegion.strides.slice(0, 3);
  const isWhole = [dim, rowsRegion.first, cacheRegion.first, ...strides].every((place) => place % 4 === 0);
  const unit: 1 | 4 = isWhole ? 4 : 1;
  const from = floatDType(rows.dtype);
  const blockSize = cache.shape[1] ?? 1;
  const to: "i8" | "f8" = cache.dtype === "i8" ? "i8" : "f8";
  return {
    regions: [rowsRegion, cacheRegion] as const,
    places: placesOf(rowsRegion, cacheRegion, unit),
    unit,
    key: `${from}->${cache.dtype} H${heads} D${dim} bs${blockSize} unit${unit}`,
    constants: { HEADS: heads, ROW_UNITS: dim / unit, BLOCK_SIZE: blockSize },
    code: quantised(from, to, unit),
    to,
  };
}

/** Scatters rows into an 8-bit cache. The slots are followed by the heads' factors. */
function quantiseRows(
  recorder: Recorder,
  rows: Operand,
  slotMapping: ArrayLike<number>,
  cache: Operand,
  factors: Float32Array,
): void {
  const [tokens = 0] = rows.shape;
  if (rows.size === 0) return;
  const words = recorder.words([...Array.from(slotMapping), ...Array.from(factors, float32Bits)]);
  const { regions, places, unit, key, constants, code } = eightBit(recorder, rows, cache);
  const kernel = recorder.kernel({
    key: `write-kv-cache ${key}`,
    entryPoint: "quantise_kv",
    bindings: ["uniform", "read", "read", "update"],
    wgsl: () => assembleWgsl(QUANTISE_KV_WGSL, { THREADS, ...constants }, code),
  });
  const units = rows.size / unit;
  const workgroups = Math.ceil(units / THREADS);
  const params = recorder.uniform(QUANTISE_PARAMS.pack({ units, workgroups, ...places, tokens }));
  recorder.dispatch(kernel, [params, words, ...regions], workgroups);
}

/** Scatters rows into an 8-bit cache and their scales beside it. Rows of no elements have scales too. */
function quantiseByRow(recorder: Recorder, rows: Operand, slots: Region, cache: Operand, scaleCache: Operand): void {
  const [tokens = 0, heads = 0] = rows.shape;
  if (tokens * heads === 0) return;
  const { regions, places, key, constants, code, to } = eightBit(recorder, rows, cache);
  const scales = recorder.update(scaleCache);
  const kernel = recorder.kernel({
    key: `write-kv-cache by row ${key}`,
    entryPoint: "quantise_rows",
    bindings: ["uniform", "read", "read", "update", "update"],
    wgsl: () => assembleWgsl(QUANTISE_ROWS_WGSL, { THREADS: ROW_THREADS, ...constants, ...SCALES[to] }, code),
  });
  const [scaleBlockStride = 0, scaleSlotStride = 0, scaleHeadStride = 0] = scales.strides;
  const scalePlaces = { scaleFirst: scales.first, scaleBlockStride, scaleSlotStride, scaleHeadStride };
  const params = recorder.uniform(ROWS_PARAMS.pack({ rows: tokens * heads, ...places, ...scalePlaces }));
  recorder.dispatch(kernel, [params, slots, ...regions, scales], tokens * heads);
}

/**
 * Operands of floats and of bytes, `packed(bits, factor)`: a unit's elements times `factor`, as one word, and
 * `largest_of(bits)`: the magnitude bits of the largest element that is finite, in f32; 0 for none.
 */
function quantised(from: FloatDType, to: "f8" | "i8", unit: 1 | 4): string[] {
  const lanes = unit === 1 ? ["bits"] : ["x", "y", "z", "w"].map((lane) => `bits.${lane}`);
  const wide = lanes.map((lane) => convertBits(from, "f32", lane));
  const bytes = wide.map((bits) => `${to}_of_scaled(${bits}, factor)`);
  const largest = wide.map((bits) => `finite_size(${bits})`).reduce((a, b) => `max(${a}, ${b})`);
  const type = unit === 1 ? "u32" : "vec4u";
  return [
    bitsOperand("rows", 2, from, unit, "read"),
    rawOperand("cache", 3, unit, "write"),
    `fn packed(bits: ${type}, factor: f32) -> u32 { return ${packBytes(bytes)}; }`,
    `fn finite_size(bits: u32) -> u32 { return select(0u, bits & 0x7fffffffu, is_finite_bits(bits)); }`,
    `fn largest_of(bits: ${type}) -> u32 { return ${largest}; }`,
  ];
}

function packBytes(bytes: readonly string[]): string {
  return bytes.map((byte, at) => `(${byte} << ${8 * at}u)`).join(" | ");
}
