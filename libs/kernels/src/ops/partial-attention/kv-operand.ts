import { type FloatDType, floatOperand, rawOperand, unpackWords } from "../../webgpu/wgsl-operands.ts";

/** How a cache's elements are read; `f8e4m3` yields them divided by 256, to be made good by the scales. */
export type KvElement = FloatDType | "f8e4m3" | "i8";

/** How many elements of a key or value row one thread loads at once, and how. */
export interface KvChunkShape {
  /** Elements per chunk. */
  readonly chunk: number;
  /** vec4f values per chunk. */
  readonly vectors: number;
  /** True: chunks are aligned 16-byte words. False: elements are loaded one by one. */
  readonly aligned: boolean;
}

/** 16-byte chunks when every row of the caches starts at a multiple of 16 bytes and is a multiple of 16 bytes long. */
export function kvChunkShape(dtype: KvElement, places: readonly number[]): KvChunkShape {
  const chunk = isByte(dtype) ? 16 : dtype === "f32" ? 4 : 8;
  const aligned = places.every((place) => place % chunk === 0);
  return aligned ? { chunk, vectors: chunk / 4, aligned } : { chunk: 4, vectors: 1, aligned };
}

/**
 * The same chunks wherever rows begin, so that threads share elements alike; rows that do not begin at multiples of 16
 * bytes are loaded one element at a time.
 * @param dims elements of a row of keys, and of values
 * @param places where rows begin, in elements
 */
export function kvChunkShapeOf(dtype: KvElement, dims: readonly number[], places: readonly number[]): KvChunkShape {
  const shape = kvChunkShape(dtype, dims);
  return { ...shape, aligned: shape.aligned && places.every((place) => place % shape.chunk === 0) };
}

function isByte(dtype: KvElement): dtype is "f8e4m3" | "i8" {
  return dtype === "f8e4m3" || dtype === "i8";
}

/** WGSL expression: the vec4f of a word of 8-bit elements. */
function byteVector(dtype: "f8e4m3" | "i8", word: string): string {
  return dtype === "i8" ? `i8_vector(${word})` : `f8_vector(${word})`;
}

/** WGSL: `load_NAME(i) -> f32`, element i. */
function elementOperand(name: string, binding: number, dtype: KvElement): string {
  if (!isByte(dtype)) return floatOperand(name, binding, dtype, 1, "read");
  return `${rawOperand(`${name}_byte`, binding, 1, "read")}
fn load_${name}(i: u32) -> f32 { return ${byteVector(dtype, `load_${name}_byte(i)`)}.x; }`;
}

/**
 * WGSL for a cache: `fetch_NAME(at, chunk) -> FetchedNAME`, where `at` is the place of a row in chunks (aligned) or
 * elements, and `decoded_NAME(fetched) -> KvChunk`. What was fetched takes no more registers than its bytes. Elements
 * beyond the row's end are 0; `lanes` take consecutive chunks, so that some may lie wholly beyond it.
 */
export function kvOperand(
  name: "key" | "value",
  binding: number,
  dtype: KvElement,
  dim: number,
  shape: KvChunkShape,
  lanes: number,
): string {
  const fetchedType = `Fetched${name === "key" ? "Key" : "Value"}`;
  if (!shape.aligned) {
    return `${elementOperand(`${name}_element`, binding, dtype)}
alias ${fetchedType} = KvChunk;
fn fetch_${name}(at: u32, chunk: u32) -> KvChunk {
  var vectors = KvChunk();
  for (var j = 0u; j < ${shape.chunk}u; j++) {
    let column = chunk * ${shape.chunk}u + j;
    if (column < ${dim}u) { vectors[j / 4u][j % 4u] = load_${name}_element(at + column); }
  }
  return vectors;
}
fn decoded_${name}(fetched: KvChunk) -> KvChunk { return fetched; }`;
  }
  const type = dtype === "f32" ? "vec4f" : "vec4u";
  const chunks = dim / shape.chunk;
  const guard = chunks % lanes === 0 ? "" : `if (chunk >= ${chunks}u) { return ${type}(); }\n  `;
  const vectors = isByte(dtype)
    ? ["x", "y", "z", "w"].map((word) => byteVector(dtype, `fetched.${word}`)).join(", ")
    : dtype === "f32"
      ? "fetched"
      : `${unpackWords(dtype, "fetched.x", "fetched.y")}, ${unpackWords(dtype, "fetched.z", "fetched.w")}`;
  return `@group(0) @binding(${binding}) var<storage, read> ${name}_data: array<${type}>;
alias ${fetchedType} = ${type};
fn fetch_${name}(at: u32, chunk: u32) -> ${type} {
  ${guard}return ${name}_data[at + chunk];
}
fn decoded_${name}(fetched: ${type}) -> KvChunk { return KvChunk(${vectors}); }`;
}

/**
 * WGSL for the queries: `query_vector(row_at, column) -> vec4f`, where `row_at` is the place of a row in elements.
 * Elements beyond the row's end are 0.
 */
export function queryOperand(binding: number, dtype: FloatDType | "f8e4m3", unit: 1 | 4): string {
  if (dtype === "f8e4m3") return byteQueryOperand(binding, unit);
  const operand = floatOperand("query", binding, dtype, unit, "read");
  if (unit === 4) {
    return `${operand}
fn query_vector(row_at: u32, column: u32) -> vec4f {
  if (column >= KEY_DIM) { return vec4f(); }
  return load_query((row_at + column) / 4u);
}`;
  }
  return `${operand}
fn query_vector(row_at: u32, column: u32) -> vec4f {
  var vector = vec4f();
  for (var j = 0u; j < 4u; j++) {
    if (column + j < KEY_DIM) { vector[j] = load_query(row_at + column + j); }
  }
  return vector;
}`;
}

function byteQueryOperand(binding: number, unit: 1 | 4): string {
  if (unit === 4) {
    return `${rawOperand("query", binding, 4, "read")}
fn query_vector(row_at: u32, column: u32) -> vec4f {
  if (column >= KEY_DIM) { return vec4f(); }
  return 256.0 * f8_vector(load_query((row_at + column) / 4u));
}`;
  }
  return `${rawOperand("query", binding, 1, "read")}
fn query_vector(row_at: u32, column: u32) -> vec4f {
  var vector = vec4f();
  for (var j = 0u; j < 4u; j++) {
    if (column + j < KEY_DIM) { vector[j] = 256.0 * f8_vector(load_query(row_at + column + j)).x; }
  }
  return vector;
}`;
}

/**
 * WGSL for the scales of a cache's rows: `NAME_scale_at(place) -> f32`, for rows whose elements are read by kvOperand.
 * Where rows have none it gives 1 and binds nothing.
 */
export function rowScaleOperand(name: "key" | "value", binding: number, dtype: KvElement, isBound: boolean): string {
  if (!isBound) return `fn ${name}_scale_at(place: u32) -> f32 { return 1.0; }`;
  const worth = dtype === "f8e4m3" ? "256.0 * " : "";
  return `@group(0) @binding(${binding}) var<storage, read> ${name}_scale_data: array<f32>;
fn ${name}_scale_at(place: u32) -> f32 { return ${worth}${name}_scale_data[place]; }`;
}
