import { readFileSync } from "node:fs";
import type { Operand } from "../../operand.ts";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import type { Region } from "../../webgpu/region.ts";
import {
  assembleWgsl,
  bitsOperand,
  convertBits,
  type FloatDType,
  floatDType,
  rawOperand,
  type Unit,
  widestUnit,
} from "../../webgpu/wgsl-operands.ts";
import type { WriteKvCacheArgs } from "./index.ts";

const SOURCE = readFileSync(new URL("./write-kv-cache.wgsl", import.meta.url), "utf8");
const THREADS = 256;
/** Units in flight per thread, when there are enough for the whole chip. */
const LOADS = 4;
const WORKGROUPS_WANTED = 512;

/** Records writeKvCache. `args` have been checked. */
export function recordWriteKvCache(recorder: Recorder, args: WriteKvCacheArgs): void {
  const { key, value, slotMapping, keyCache, valueCache } = args;
  expectContiguousOnGpu("writeKvCache", "key", key);
  if (value !== undefined) expectContiguousOnGpu("writeKvCache", "value", value);
  const slots = recorder.words(slotMapping);
  scatterRows(recorder, key, slots, keyCache);
  if (value !== undefined && valueCache !== undefined) scatterRows(recorder, value, slots, valueCache);
}

function scatterRows(recorder: Recorder, rows: Operand, slots: Region, cache: Operand): void {
  const [tokens = 0, heads = 0, dim = 0] = rows.shape;
  const rowsRegion = recorder.read(rows);
  const cacheRegion = recorder.update(cache);
  const [blockStride = 0, slotStride = 0, headStride = 0] = cacheRegion.strides;
  const places = [dim, rowsRegion.first, cacheRegion.first, blockStride, slotStride, headStride];
  const [from, to] = [floatDType(rows.dtype), floatDType(cache.dtype)];
  const unit = widestUnit([from, to], places);
  const units = (tokens * heads * dim) / unit;
  if (units === 0) return;
  const loads = units >= LOADS * THREADS * WORKGROUPS_WANTED ? LOADS : 1;
  const blockSize = cache.shape[1] ?? 1;
  const constants = { THREADS, LOADS: loads, HEADS: heads, ROW_UNITS: dim / unit, BLOCK_SIZE: blockSize };
  const kernel = recorder.kernel({
    key: `write-kv-cache ${from}->${to} H${heads} D${dim} bs${blockSize} unit${unit} loads${loads}`,
    entryPoint: "write_kv_cache",
    bindings: ["uniform", "read", "read", "update"],
    wgsl: () => assembleWgsl(SOURCE, constants, from === to ? moved(from, unit) : rounded(from, to, unit)),
  });
  const workgroups = Math.ceil(units / (loads * THREADS));
  const params = recorder.uniform([
    units,
    workgroups,
    rowsRegion.first / unit,
    cacheRegion.first / unit,
    blockStride / unit,
    slotStride / unit,
    headStride / unit,
  ]);
  recorder.dispatch(kernel, [params, slots, rowsRegion, cacheRegion], workgroups);
}

/** Operands whose bits are copied. */
function moved(dtype: FloatDType, unit: Unit): string[] {
  const width = dtype === "f32" ? 4 : 2;
  const bytes = unit === 1 ? width : unit * width === 16 ? 16 : undefined;
  const type = unit === 1 ? "u32" : "vec4u";
  const operand = (name: string, binding: number, access: "read" | "write"): string =>
    bytes === undefined ? bitsOperand(name, binding, dtype, unit, access) : rawOperand(name, binding, bytes, access);
  return [
    `alias Loaded = ${type};`,
    operand("rows", 2, "read"),
    operand("cache", 3, "write"),
    "fn converted(bits: Loaded) -> Loaded { return bits; }",
  ];
}

/** Operands of different dtypes. */
function rounded(from: FloatDType, to: FloatDType, unit: Unit): string[] {
  const vector = (bits: string): string =>
    `vec4u(${["x", "y", "z", "w"].map((element) => convertBits(from, to, `${bits}.${element}`)).join(", ")})`;
  const types = { 1: "u32", 4: "vec4u", 8: "array<vec4u, 2>" };
  const values = {
    1: convertBits(from, to, "bits"),
    4: vector("bits"),
    8: `array(${vector("bits[0]")}, ${vector("bits[1]")})`,
  };
  return [
    `alias Loaded = ${types[unit]};`,
    bitsOperand("rows", 2, from, unit, "read"),
    bitsOperand("cache", 3, to, unit, "write"),
    `fn converted(bits: Loaded) -> Loaded { return ${values[unit]}; }`,
  ];
}
