// Moves rows into paged caches, those of several operands in one dispatch.
import { DTYPE_BYTES, type DType } from "@lockstep/tensor";
import type { Operand } from "../../operand.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import type { Region } from "../../webgpu/region.ts";
import {
  assembleWgsl,
  bitsOperand,
  convertBits,
  floatDType,
  type RawBytes,
  rawOperand,
  type Unit,
  widestUnit,
} from "../../webgpu/wgsl-operands.ts";
import {
  alikeParts,
  areApart,
  type BoundParts,
  bindParts,
  operandOfParts,
  partsKernel,
} from "../../webgpu/wgsl-parts.ts";
import { widestMove } from "../gather-kv-cache/webgpu.ts";
import { WRITE_KV_CACHE_WGSL } from "./write-kv-cache.wgsl.ts";

/** Where rows and their cache lie, in units. */
export const PLACES = ["rowsFirst", "cacheFirst", "blockStride", "slotStride", "headStride"] as const;
export type Places = Readonly<Record<(typeof PLACES)[number], number>>;

const KERNEL = partsKernel(WRITE_KV_CACHE_WGSL, "Places", ["units", "workgroups"], PLACES);

const THREADS = 256;
/** Units in flight per thread, when there are enough for the whole chip. */
const LOADS = 4;
const WORKGROUPS_WANTED = 512;

/** Where these lie in units of so many elements. */
export function placesOf(rows: Region, cache: Region, unit: number): Places {
  const [blockStride = 0, slotStride = 0, headStride = 0] = cache.strides;
  return {
    rowsFirst: rows.first / unit,
    cacheFirst: cache.first / unit,
    blockStride: blockStride / unit,
    slotStride: slotStride / unit,
    headStride: headStride / unit,
  };
}

/** Rows and the cache that they go to, bound. */
export interface Scatter {
  readonly rows: Operand;
  readonly cache: Operand;
  readonly slots: ArrayLike<number>;
  readonly regions: readonly [rows: Region, cache: Region];
  /** What the kernel depends on. */
  readonly key: string;
  /** Elements that a thread moves at once, and their bytes where these are moved as they are. */
  readonly unit: number;
  readonly bytes: RawBytes | undefined;
}

/** Binds rows and the cache that they go to. */
export function scatterOf(recorder: Recorder, rows: Operand, cache: Operand, slots: ArrayLike<number>): Scatter {
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
  return { rows, cache, slots, regions, key, unit, bytes };
}

/** Scatters rows, those of one kernel in one dispatch: a dispatch of its own costs 2 us on the GPU and more before. */
export function scatterRows(recorder: Recorder, scatters: readonly Scatter[]): void {
  const lists = new Map<ArrayLike<number>, { readonly words: Region; readonly number: number }>();
  for (const { slots } of scatters) {
    if (!lists.has(slots)) lists.set(slots, { words: recorder.words(slots), number: lists.size });
  }
  const fits = (parts: readonly Scatter[]): boolean => {
    const { rows, caches } = boundOf(recorder, parts);
    return 1 + rows.bound.length + caches.bound.length <= recorder.mostStorageBuffers && areApart(caches.bound);
  };
  for (const parts of alikeParts(scatters, ({ key, slots }) => `${key} ${lists.get(slots)?.number}`, fits)) {
    const words = lists.get(parts[0]?.slots ?? [])?.words;
    if (words !== undefined) dispatchScatters(recorder, words, parts);
  }
}

/** Rows and caches of the parts of a dispatch, as they are bound. */
function boundOf(
  recorder: Recorder,
  parts: readonly Scatter[],
): { readonly rows: BoundParts; readonly caches: BoundParts } {
  const [one] = parts;
  const bound = (which: 0 | 1, dtype: DType): BoundParts => {
    return bindParts(
      parts.map(({ regions }) => regions[which]),
      DTYPE_BYTES[dtype],
      recorder.mostBindable,
    );
  };
  return { rows: bound(0, one?.rows.dtype ?? "f32"), caches: bound(1, one?.cache.dtype ?? "f32") };
}

function dispatchScatters(recorder: Recorder, slots: Region, parts: readonly Scatter[]): void {
  const [one] = parts;
  if (one === undefined) return;
  const { rows, cache, unit, bytes, key } = one;
  const [tokens = 0, heads = 0, dim = 0] = rows.shape;
  const units = (tokens * heads * dim) / unit;
  const loads = units >= LOADS * THREADS * WORKGROUPS_WANTED ? LOADS : 1;
  const blockSize = cache.shape[1] ?? 1;
  const bound = boundOf(recorder, parts);
  const [rowsBound, cachesBound] = [bound.rows.bound.length, bound.caches.bound.length];
  const constants = {
    THREADS,
    LOADS: loads,
    HEADS: heads,
    ROW_UNITS: dim / unit,
    BLOCK_SIZE: blockSize,
    PARTS: parts.length,
  };
  const many = parts.length === 1 ? "" : ` parts${parts.length} in ${rowsBound},${cachesBound}`;
  const kernel = recorder.kernel({
    key: `${key} loads${loads}${many}`,
    entryPoint: "write_kv_cache",
    bindings: [
      "uniform",
      "read",
      ...bound.rows.bound.map(() => "read" as const),
      ...bound.caches.bound.map(() => "update" as const),
    ],
    wgsl: () =>
      assembleWgsl(
        KERNEL.wgsl(parts.length),
        constants,
        bytes === undefined ? rounded(rows, cache, unit, rowsBound, cachesBound) : moved(bytes, rowsBound, cachesBound),
      ),
  });
  const workgroups = Math.ceil(units / (loads * THREADS));
  const places = parts.map(({ regions }, part) => {
    const [rowsFirst = 0, cacheFirst = 0] = [bound.rows.firsts[part], bound.caches.firsts[part]];
    return placesOf({ ...regions[0], first: rowsFirst }, { ...regions[1], first: cacheFirst }, unit);
  });
  const params = recorder.uniform(KERNEL.pack({ units, workgroups }, places));
  recorder.dispatch(kernel, [params, slots, ...bound.rows.bound, ...bound.caches.bound], workgroups * parts.length);
}

/** Operands whose bytes are copied, so many at once. */
function moved(bytes: RawBytes, rows: number, caches: number): string[] {
  return [
    `alias Loaded = ${bytes === 16 ? "vec4u" : "u32"};`,
    ...ofParts(rows, caches, (name, binding, access) => rawOperand(name, binding, bytes, access)),
    "fn converted(bits: Loaded) -> Loaded { return bits; }",
  ];
}

/** Rows and caches of so many bindings. */
function ofParts(
  rows: number,
  caches: number,
  declared: (name: string, binding: number, access: "read" | "write") => string,
): string[] {
  const value = { name: "value", type: "Loaded" };
  return [
    operandOfParts("rows", 2, rows, (name, binding) => declared(name, binding, "read"), [
      { name: "load", result: "Loaded" },
    ]),
    operandOfParts("cache", 2 + rows, caches, (name, binding) => declared(name, binding, "write"), [
      { name: "store", value },
    ]),
  ];
}

/** Operands of different dtypes. */
function rounded(rows: Operand, cache: Operand, unit: number, rowsBound: number, cachesBound: number): string[] {
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
    ...ofParts(rowsBound, cachesBound, (name, binding, access) =>
      bitsOperand(name, binding, access === "read" ? from : to, size, access),
    ),
    `fn converted(bits: Loaded) -> Loaded { return ${values[size]}; }`,
  ];
}
