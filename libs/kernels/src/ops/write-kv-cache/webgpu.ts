import { readFileSync } from "node:fs";
import type { Operand } from "../../operand.ts";
import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import type { Region } from "../../webgpu/region.ts";
import { assembleWgsl, bitsOperand, convertBits, type FloatDType, floatDType } from "../../webgpu/wgsl-operands.ts";
import type { WriteKvCacheArgs } from "./index.ts";

const SOURCE = readFileSync(new URL("./write-kv-cache.wgsl", import.meta.url), "utf8");
const THREADS = 128;

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
  const unit = places.every((place) => place % 4 === 0) ? 4 : 1;
  const [from, to] = [floatDType(rows.dtype), floatDType(cache.dtype)];
  const kernel = recorder.kernel({
    key: `write-kv-cache ${from}->${to} unit${unit}`,
    entryPoint: "write_kv_cache",
    bindings: ["uniform", "read", "read", "update"],
    wgsl: () =>
      assembleWgsl(SOURCE, { THREADS }, [
        bitsOperand("rows", 2, from, unit, "read"),
        bitsOperand("cache", 3, to, unit, "write"),
        convertedFunction(from, to, unit),
      ]),
  });
  const units = (tokens * heads * dim) / unit;
  const workgroups = Math.ceil(units / THREADS);
  const params = recorder.uniform([
    units,
    workgroups,
    heads,
    dim / unit,
    cache.shape[1] ?? 1,
    rowsRegion.first / unit,
    cacheRegion.first / unit,
    blockStride / unit,
    slotStride / unit,
    headStride / unit,
  ]);
  recorder.dispatch(kernel, [params, slots, rowsRegion, cacheRegion], workgroups);
}

function convertedFunction(from: FloatDType, to: FloatDType, unit: 1 | 4): string {
  if (unit === 1) return `fn converted(bits: u32) -> u32 { return ${convertBits(from, to, "bits")}; }`;
  const elements = ["x", "y", "z", "w"].map((element) => convertBits(from, to, `bits.${element}`));
  return `fn converted(bits: vec4u) -> vec4u { return vec4u(${elements.join(", ")}); }`;
}
