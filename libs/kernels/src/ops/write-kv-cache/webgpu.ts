import { DTYPE_BYTES } from "@lockstep/tensor";
import type { Operand } from "../../operand.ts";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import { float32Bits } from "../../webgpu/float-bits.ts";
import { ParamTable } from "../../webgpu/param-table.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { type Region, regionsOverlap } from "../../webgpu/region.ts";
import {
  assembleWgsl,
  bitsOperand,
  convertBits,
  type FloatDType,
  floatDType,
  type RawBytes,
  rawOperand,
  type Unit,
  widestUnit,
} from "../../webgpu/wgsl-operands.ts";
import { widestMove } from "../gather-kv-cache/webgpu.ts";
import type { WriteKvCacheArgs, WriteKvCachePlan } from "./index.ts";
import { WRITE_KV_CACHE_WGSL } from "./write-kv-cache.wgsl.ts";
import { QUANTISE_ROWS_WGSL } from "./quantise-rows.wgsl.ts";
import { QUANTISE_KV_WGSL } from "./quantise-kv.wgsl.ts";

/** Where rows and their cache lie, in units. */
const PLACES = ["rowsFirst", "cacheFirst", "blockStride", "slotStride", "headStride"] as const;
type Places = Readonly<Record<(typeof PLACES)[number], number>>;

const PARAMS = new ParamTable(WRITE_KV_CACHE_WGSL, [
  "units",
  "workgroups",
  "placesRowsFirst",
  "placesCacheFirst",
  "placesBlockStride",
  "placesSlotStride",
  "placesHeadStride",
  "otherPlacesRowsFirst",
  "otherPlacesCacheFirst",
  "otherPlacesBlockStride",
  "otherPlacesSlotStride",
  "otherPlacesHeadStride",
]);
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
/** Units in flight per thread, when there are enough for the whole chip. */
const LOADS = 4;
const WORKGROUPS_WANTED = 512;

/** Records writeKvCache. `args` have been checked. */
export function recordWriteKvCache(recorder: Recorder, args: WriteKvCacheArgs, plan: WriteKvCachePlan): void {
  const { key, value, keyCache, valueCache } = args;
  expectContiguousOnGpu("writeKvCache", "key", key);
  if (value !== undefined) expectContiguousOnGpu("writeKvCache", "value", value);
  const { keyFactors, valueFactors } = plan;
  const slots = recorder.words(plan.slots);
  if (args.keyScaleCache !== undefined) {
    quantiseByRow(recorder, key, slots, keyCache, args.keyScaleCache);
    if (value !== undefined && valueCache !== undefined && args.valueScaleCache !== undefined) {
      quantiseByRow(recorder, value, slots, valueCache, args.valueScaleCache);
    }
    return;
  }
  const operands: (readonly [rows: Operand, cache: Operand])[] = [];
  const add = (rows: Operand, cache: Operand, factors: Float32Array | undefined): void => {
    if (factors === undefined) operands.push([rows, cache]);
    else quantiseRows(recorder, rows, plan.slots, cache, factors);
  };
  add(key, keyCache, keyFactors);
  if (value !== undefined && valueCache !== undefined) add(value, valueCache, valueFactors);
  scatterRows(recorder, slots, operands);
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

function placesOf(rows: Region, cache: Region, unit: number): Places {
  const [blockStride = 0, slotStride = 0, headStride = 0] = cache.strides;
  return {
    rowsFirst: rows.first / unit,
    cacheFirst: cache.first / unit,
    blockStride: blockStride / unit,
    slotStride: slotStride / unit,
    headStride: headStride / unit,
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

/** Rows and the cache that they go to, bound. */
interface Scatter {
  readonly rows: Operand;
  readonly cache: Operand;
  readonly regions: readonly [rows: Region, cache: Region];
  /** What the kernel depends on. */
  readonly key: string;
  /** Elements that a thread moves at once, and their bytes where these are moved as they are. */
  readonly unit: number;
  readonly bytes: RawBytes | undefined;
}

function scatterOf(recorder: Recorder, rows: Operand, cache: Operand): Scatter {
  const [, heads = 0, dim = 0] = rows.shape;
  const regions = [recorder.read(rows), recorder.update(cache)] as const;
  const [rowsRegion, cacheRegion] = regions;
  const places = [dim, rowsRegion.first, cacheRegion.first, ...cacheRegion.strides.slice(0, 3)];
  const width = DTYPE_BYTES[cache.dtype];
  const bytes = rows.dtype === cache.dtype ? widestMove(places.map((place) => place * width)) : undefined;
  const unit =
    bytes === undefined ? widestUnit([floatDType(rows.dtype), floatDType(cache.dtype)], places) : bytes / width;
  const blockSize = cache.shape[1] ?? 1;
  const key = `write-kv-cache ${rows.dtype}->${cache.dtype} H${heads} D${dim} bs${blockSize} unit${unit}`;
  return { rows, cache, regions, key, unit, bytes };
}

/** Scatters keys and values, in one dispatch where one kernel serves both: a dispatch of its own costs 2 us. */
function scatterRows(
  recorder: Recorder,
  slots: Region,
  operands: readonly (readonly [rows: Operand, cache: Operand])[],
): void {
  const scatters = operands.map(([rows, cache]) => scatterOf(recorder, rows, cache));
  const [first, second] = scatters;
  if (first === undefined) return;
  if (second !== undefined && first.key === second.key && !regionsOverlap(first.regions[1], second.regions[1])) {
    dispatchScatter(recorder, slots, first, second);
  } else {
    for (const scatter of scatters) dispatchScatter(recorder, slots, scatter, undefined);
  }
}

function dispatchScatter(recorder: Recorder, slots: Region, first: Scatter, second: Scatter | undefined): void {
  const { rows, cache, unit, bytes, key } = first;
  const [tokens = 0, heads = 0, dim = 0] = rows.shape;
  const units = (tokens * heads * dim) / unit;
  if (units === 0) return;
  const isPair = second !== undefined;
  const loads = units >= LOADS * THREADS * WORKGROUPS_WANTED ? LOADS : 1;
  const blockSize = cache.shape[1] ?? 1;
  const constants = {
    THREADS,
    LOADS: loads,
    HEADS: heads,
    ROW_UNITS: dim / unit,
    BLOCK_SIZE: blockSize,
    PAIRED: isPair,
  };
  const kernel = recorder.kernel({
    key: `${key} loads${loads}${isPair ? " paired" : ""}`,
    entryPoint: "write_kv_cache",
    bindings: ["uniform", "read", "read", "update", ...(isPair ? (["read", "update"] as const) : [])],
    wgsl: () =>
      assembleWgsl(WRITE_KV_CACHE_WGSL, constants, [
        ...(bytes === undefined ? rounded(rows, cache, unit) : moved(bytes)),
        ...(isPair
          ? bytes === undefined
            ? roundedOperands("other_rows", "other_cache", 4, rows, cache, unit)
            : movedOperands("other_rows", "other_cache", 4, bytes)
          : [ALONE]),
      ]),
  });
  const workgroups = Math.ceil(units / (loads * THREADS));
  const scatters = isPair ? [first, second] : [first];
  const places = placesOf(...first.regions, unit);
  const other = isPair ? placesOf(...second.regions, unit) : NOWHERE;
  const params = recorder.uniform(
    PARAMS.pack({
      units,
      workgroups,
      placesRowsFirst: places.rowsFirst,
      placesCacheFirst: places.cacheFirst,
      placesBlockStride: places.blockStride,
      placesSlotStride: places.slotStride,
      placesHeadStride: places.headStride,
      otherPlacesRowsFirst: other.rowsFirst,
      otherPlacesCacheFirst: other.cacheFirst,
      otherPlacesBlockStride: other.blockStride,
      otherPlacesSlotStride: other.slotStride,
      otherPlacesHeadStride: other.headStride,
    }),
  );
  const regions = [params, slots, ...scatters.flatMap((scatter) => scatter.regions)];
  recorder.dispatch(kernel, regions, workgroups * scatters.length);
}

/** What stands for the values where there are none. */
const ALONE = `fn load_other_rows(i: u32) -> Loaded { return load_rows(i); }
fn store_other_cache(i: u32, value: Loaded) {}`;
const NOWHERE: Places = { rowsFirst: 0, cacheFirst: 0, blockStride: 0, slotStride: 0, headStride: 0 };

/** Operands whose bytes are copied, so many at once. */
function moved(bytes: RawBytes): string[] {
  return [
    `alias Loaded = ${bytes === 16 ? "vec4u" : "u32"};`,
    ...movedOperands("rows", "cache", 2, bytes),
    "fn converted(bits: Loaded) -> Loaded { return bits; }",
  ];
}

function movedOperands(rows: string, cache: string, binding: number, bytes: RawBytes): string[] {
  return [rawOperand(rows, binding, bytes, "read"), rawOperand(cache, binding + 1, bytes, "write")];
}

function roundedOperands(
  rowsName: string,
  cacheName: string,
  binding: number,
  rows: Operand,
  cache: Operand,
  unit: number,
): string[] {
  const size: Unit = unit === 8 ? 8 : unit === 4 ? 4 : 1;
  return [
    bitsOperand(rowsName, binding, floatDType(rows.dtype), size, "read"),
    bitsOperand(cacheName, binding + 1, floatDType(cache.dtype), size, "write"),
  ];
}

/** Operands of different dtypes. */
function rounded(rows: Operand, cache: Operand, unit: number): string[] {
  const [from, to] = [floatDType(rows.dtype), floatDType(cache.dtype)];
  const vector = (bits: string): string =>
    `vec4u(${["x", "y", "z", "w"].map((element) => convertBits(from, to, `${bits}.${element}`)).join(", ")})`;
  const types = { 1: "u32", 4: "vec4u", 8: "array<vec4u, 2>" };
  const values = {
    1: convertBits(from, to, "bits"),
    4: vector("bits"),
    8: `array(${vector("bits[0]")}, ${vector("bits[1]")})`,
  };
  const size: Unit = unit === 8 ? 8 : unit === 4 ? 4 : 1;
  return [
    `alias Loaded = ${types[size]};`,
    ...roundedOperands("rows", "cache", 2, rows, cache, unit),
    `fn converted(bits: Loaded) -> Loaded { return ${values[size]}; }`,
  ];
}
