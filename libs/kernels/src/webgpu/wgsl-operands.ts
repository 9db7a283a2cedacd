import type { DType } from "@lockstep/tensor";
import { unrollLoops } from "./unroll.ts";
import { FLOAT_FORMATS_WGSL } from "../device/float-formats.wgsl.ts";

/** f32, f16 or bf16. */
export type FloatDType = "f32" | "f16" | "bf16";

/** Narrows a dtype that an op's check has restricted to floats. */
export function floatDType(dtype: DType): FloatDType {
  if (dtype === "f32" || dtype === "f16" || dtype === "bf16") return dtype;
  throw new TypeError(`${dtype} is no float dtype`);
}

/**
 * WGSL source: named constants, conversions between float formats, operands, then the kernel. Loops marked `// unroll`
 * are written out.
 */
export function assembleWgsl(
  kernel: string,
  constants: Readonly<Record<string, number | boolean>>,
  operands: readonly string[],
  directives = "",
): string {
  const named = Object.entries(constants).map(([name, value]) =>
    typeof value === "boolean" ? `const ${name} = ${value};` : `const ${name} = ${value}u;`,
  );
  return [directives, ...named, FLOAT_FORMATS_WGSL, unrollLoops([...operands, kernel].join("\n"), constants)].join(
    "\n",
  );
}

/** How a kernel uses a storage binding; `update` reads and writes it. */
export type Access = "read" | "write" | "update";

function storage(binding: number, access: Access, name: string, element: string): string {
  const mode = access === "read" ? "read" : "read_write";
  return `@group(0) @binding(${binding}) var<storage, ${mode}> ${name}: array<${element}>;`;
}

/** Elements that a kernel loads, computes and stores at once. */
export type Unit = 1 | 4 | 8;

/** The WGSL type of a unit of floats: sums and products with a number work on each of them. */
export const UNIT_TYPES: Readonly<Record<Unit, string>> = { 1: "f32", 4: "vec4f", 8: "mat2x4f" };

/** WGSL: the unit's type as `Unit`, and `nan_unit()`, one of NaNs. */
export function unitAlias(unit: Unit): string {
  const vector = "vec4f(nan(), nan(), nan(), nan())";
  const nans = { 1: "nan()", 4: vector, 8: `mat2x4f(${vector}, ${vector})` }[unit];
  return `alias Unit = ${UNIT_TYPES[unit]};\nfn nan_unit() -> Unit { return ${nans}; }`;
}

/** The widest unit for operands of these dtypes: 16 bytes of the narrowest, if `places` (in elements) all allow it. */
export function widestUnit(dtypes: readonly FloatDType[], places: readonly number[]): Unit {
  const widest = dtypes.some((dtype) => dtype !== "f32") ? 8 : 4;
  return ([widest, 4] as const).find((unit) => places.every((place) => place % unit === 0)) ?? 1;
}

/**
 * A float operand as WGSL functions `fetch_NAME(i) -> Fetched_NAME`, `decoded_NAME(fetched) -> unit`, `load_NAME(i)`
 * (both at once) and `store_NAME(i, value)`, where i counts units of 8, 4 or 1 elements from the start of the binding.
 * What was fetched takes no more registers than its bytes. Units of 8 and 4 take aligned words whole. Single 16-bit
 * elements are stored by atomics with disjoint masks, so that two threads may own the halves of one word.
 */
export function floatOperand(name: string, binding: number, dtype: FloatDType, unit: Unit, access: Access): string {
  const data = `${name}_data`;
  const type = UNIT_TYPES[unit];
  const isNarrow = unit === 1 && dtype !== "f32";
  const elements = ELEMENTS[dtype][unit];
  const stored = isNarrow ? (access === "read" ? "u32" : "atomic<u32>") : elements.type;
  const lines = [storage(binding, access, data, stored)];
  if (access !== "write") {
    const word = access === "read" ? `${data}[i >> 1u]` : `atomicLoad(&${data}[i >> 1u])`;
    const fetched = isNarrow ? `(${word} >> ((i & 1u) * 16u)) & 0xffffu` : elements.fetched(data);
    lines.push(
      `alias Fetched_${name} = ${elements.fetchedType ?? elements.type};`,
      `fn fetch_${name}(i: u32) -> Fetched_${name} { return ${fetched}; }`,
      `fn decoded_${name}(fetched: Fetched_${name}) -> ${type} { return ${elements.decoded}; }`,
      `fn load_${name}(i: u32) -> ${type} { return decoded_${name}(fetch_${name}(i)); }`,
    );
  }
  if (access !== "read") {
    const body = isNarrow
      ? `let shift = (i & 1u) * 16u;
  atomicAnd(&${data}[i >> 1u], ~(0xffffu << shift));
  atomicOr(&${data}[i >> 1u], ${dtype}_of_f32_bits(bitcast<u32>(value)) << shift);`
      : elements.store(data);
    lines.push(`fn store_${name}(i: u32, value: ${type}) {\n  ${body}\n}`);
  }
  return lines.join("\n");
}

/** How a unit of a dtype lies in memory. */
interface UnitElements {
  /** Type of the binding's elements. */
  readonly type: string;
  /** Type of a fetched unit where that is another. */
  readonly fetchedType?: string;
  /** WGSL expression: what is fetched for unit i. */
  readonly fetched: (data: string) => string;
  /** WGSL expression: the values of `fetched`. */
  readonly decoded: string;
  /** WGSL statement: stores `value` as unit i. */
  readonly store: (data: string) => string;
}

const PLAIN = {
  fetched: (data: string): string => `${data}[i]`,
  decoded: "fetched",
  store: (data: string): string => `${data}[i] = value;`,
};

function halfElements(dtype: "f16" | "bf16"): Readonly<Record<Unit, UnitElements>> {
  const packed = (vector: string): string => {
    if (dtype === "f16") return `f16_pair(${vector}.xy), f16_pair(${vector}.zw)`;
    const bits = (element: string): string => `${dtype}_of_f32_bits(bitcast<u32>(${vector}.${element}))`;
    return `${bits("x")} | (${bits("y")} << 16u), ${bits("z")} | (${bits("w")} << 16u)`;
  };
  const values = (first: string, second: string): string => unpackWords(dtype, `fetched.${first}`, `fetched.${second}`);
  return {
    1: { ...PLAIN, type: "u32", decoded: `bitcast<f32>(f32_bits_of_${dtype}(fetched))` },
    4: {
      ...PLAIN,
      type: "vec2u",
      decoded: values("x", "y"),
      store: (data) => `${data}[i] = vec2u(${packed("value")});`,
    },
    8: {
      ...PLAIN,
      type: "vec4u",
      decoded: `mat2x4f(${values("x", "y")}, ${values("z", "w")})`,
      store: (data) => `${data}[i] = vec4u(${packed("value[0]")}, ${packed("value[1]")});`,
    },
  };
}

const ELEMENTS: Readonly<Record<FloatDType, Readonly<Record<Unit, UnitElements>>>> = {
  f32: {
    1: { ...PLAIN, type: "f32" },
    4: { ...PLAIN, type: "vec4f" },
    8: {
      type: "vec4f",
      fetchedType: "mat2x4f",
      fetched: (data) => `mat2x4f(${data}[2u * i], ${data}[2u * i + 1u])`,
      decoded: "fetched",
      store: (data) => `${data}[2u * i] = value[0];\n  ${data}[2u * i + 1u] = value[1];`,
    },
  },
  f16: halfElements("f16"),
  bf16: halfElements("bf16"),
};

/** WGSL expression: the vec4f that two words of 16-bit elements hold. */
export function unpackWords(dtype: "f16" | "bf16", first: string, second: string): string {
  if (dtype === "f16") return `vec4f(unpack2x16float(${first}), unpack2x16float(${second}))`;
  return (
    `bitcast<vec4f>(vec4u(${first} << 16u, ${first} & 0xffff0000u, ` + `${second} << 16u, ${second} & 0xffff0000u))`
  );
}

/**
 * A float operand whose elements are moved as bit patterns: `load_NAME(i)` and `store_NAME(i, bits)` in units of 8, 4
 * or 1 elements, each element in a u32 of its own: array<vec4u, 2>, vec4u or u32. Stores of single 16-bit elements as
 * in floatOperand.
 */
export function bitsOperand(
  name: string,
  binding: number,
  dtype: FloatDType,
  unit: Unit,
  access: "read" | "write",
): string {
  if (unit === 1) return rawOperand(name, binding, dtype === "f32" ? 4 : 2, access);
  if (dtype === "f32" && unit === 4) return rawOperand(name, binding, 16, access);
  const data = `${name}_data`;
  const binds = storage(binding, access, data, dtype === "f32" || unit === 8 ? "vec4u" : "vec2u");
  const type = unit === 8 ? "array<vec4u, 2>" : "vec4u";
  const lines = dtype === "f32" ? F32_BITS_BY_8 : unit === 8 ? HALF_BITS_BY_8 : HALF_BITS_BY_4;
  const body = lines[access].replaceAll("DATA", data);
  return access === "read"
    ? `${binds}\nfn load_${name}(i: u32) -> ${type} {\n  ${body}\n}`
    : `${binds}\nfn store_${name}(i: u32, bits: ${type}) {\n  ${body}\n}`;
}

const F32_BITS_BY_8 = {
  read: "return array(DATA[2u * i], DATA[2u * i + 1u]);",
  write: "DATA[2u * i] = bits[0];\n  DATA[2u * i + 1u] = bits[1];",
};

const HALF_BITS_BY_4 = {
  read: `let words = DATA[i];
  return vec4u(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);`,
  write: "DATA[i] = vec2u(bits.x | (bits.y << 16u), bits.z | (bits.w << 16u));",
};

const HALF_BITS_BY_8 = {
  read: `let words = DATA[i];
  return array(
    vec4u(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u),
    vec4u(words.z & 0xffffu, words.z >> 16u, words.w & 0xffffu, words.w >> 16u),
  );`,
  write: `let low = bits[0];
  let high = bits[1];
  DATA[i] = vec4u(low.x | (low.y << 16u), low.z | (low.w << 16u), high.x | (high.y << 16u), high.z | (high.w << 16u));`,
};

/** WGSL expression: the element with bits `bits` of dtype `from`, rounded to `to`, as bits. */
export function convertBits(from: FloatDType, to: FloatDType, bits: string): string {
  if (from === to) return bits;
  const wide = from === "f32" ? bits : `f32_bits_of_${from}(${bits})`;
  return to === "f32" ? wide : `${to}_of_f32_bits(${wide})`;
}

/** Bytes that a raw operand moves at once. */
export type RawBytes = 16 | 4 | 2 | 1;

/**
 * An operand of any dtype whose bytes are moved as they are: `load_NAME(i)` and `store_NAME(i, value)` in units of
 * `bytes`, as vec4u (16) or u32 (4, 2, 1). Units below a word are stored by atomics with disjoint masks.
 */
export function rawOperand(name: string, binding: number, bytes: RawBytes, access: "read" | "write"): string {
  const data = `${name}_data`;
  if (bytes >= 4) {
    const type = bytes === 16 ? "vec4u" : "u32";
    return access === "read"
      ? `${storage(binding, access, data, type)}\nfn load_${name}(i: u32) -> ${type} { return ${data}[i]; }`
      : `${storage(binding, access, data, type)}\nfn store_${name}(i: u32, value: ${type}) { ${data}[i] = value; }`;
  }
  const perWord = 4 / bytes;
  const log = Math.log2(perWord);
  const mask = bytes === 2 ? "0xffffu" : "0xffu";
  const shift = `((i & ${perWord - 1}u) * ${8 * bytes}u)`;
  if (access === "read") {
    return `${storage(binding, access, data, "u32")}
fn load_${name}(i: u32) -> u32 { return (${data}[i >> ${log}u] >> ${shift}) & ${mask}; }`;
  }
  return `${storage(binding, access, data, "atomic<u32>")}
fn store_${name}(i: u32, value: u32) {
  let shift = ${shift};
  atomicAnd(&${data}[i >> ${log}u], ~(${mask} << shift));
  atomicOr(&${data}[i >> ${log}u], (value & ${mask}) << shift);
}`;
}
