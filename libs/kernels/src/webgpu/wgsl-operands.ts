import { readFileSync } from "node:fs";
import type { DType } from "@lockstep/tensor";
import { unrollLoops } from "./unroll.ts";

/** f32, f16 or bf16. */
export type FloatDType = "f32" | "f16" | "bf16";

/** Narrows a dtype that an op's check has restricted to floats. */
export function floatDType(dtype: DType): FloatDType {
  if (dtype === "f32" || dtype === "f16" || dtype === "bf16") return dtype;
  throw new TypeError(`${dtype} is no float dtype`);
}

const FLOAT_FORMATS = readFileSync(new URL("./float-formats.wgsl", import.meta.url), "utf8");

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
  return [directives, ...named, FLOAT_FORMATS, unrollLoops([...operands, kernel].join("\n"), constants)].join("\n");
}

/** How a kernel uses a storage binding; `update` reads and writes it. */
export type Access = "read" | "write" | "update";

function storage(binding: number, access: Access, name: string, element: string): string {
  const mode = access === "read" ? "read" : "read_write";
  return `@group(0) @binding(${binding}) var<storage, ${mode}> ${name}: array<${element}>;`;
}

/**
 * A float operand as WGSL functions `load_NAME(i) -> vec4f` or `-> f32`, and `store_NAME(i, value)`, where i counts
 * units of 4 or 1 elements from the start of the binding. Units of 4 take aligned words whole. Single 16-bit elements
 * are stored by atomics with disjoint masks, so that two threads may own the halves of one word.
 */
export function floatOperand(name: string, binding: number, dtype: FloatDType, unit: 1 | 4, access: Access): string {
  const data = `${name}_data`;
  const lines: string[] = [];
  if (dtype === "f32") {
    const type = unit === 4 ? "vec4f" : "f32";
    lines.push(storage(binding, access, data, type));
    if (access !== "write") lines.push(`fn load_${name}(i: u32) -> ${type} { return ${data}[i]; }`);
    if (access !== "read") lines.push(`fn store_${name}(i: u32, value: ${type}) { ${data}[i] = value; }`);
    return lines.join("\n");
  }
  const encode = `${dtype}_of_f32_bits`;
  if (unit === 4) {
    lines.push(storage(binding, access, data, "vec2u"));
    if (access !== "write") {
      lines.push(`fn load_${name}(i: u32) -> vec4f {
  let words = ${data}[i];
  return ${unpackWords(dtype, "words.x", "words.y")};
}`);
    }
    if (access !== "read") {
      lines.push(`fn store_${name}(i: u32, value: vec4f) {
  let bits = bitcast<vec4u>(value);
  ${data}[i] = vec2u(
    ${encode}(bits.x) | (${encode}(bits.y) << 16u),
    ${encode}(bits.z) | (${encode}(bits.w) << 16u),
  );
}`);
    }
    return lines.join("\n");
  }
  lines.push(storage(binding, access, data, access === "read" ? "u32" : "atomic<u32>"));
  if (access !== "write") {
    const word = access === "read" ? `${data}[i >> 1u]` : `atomicLoad(&${data}[i >> 1u])`;
    lines.push(`fn load_${name}(i: u32) -> f32 {
  return bitcast<f32>(f32_bits_of_${dtype}((${word} >> ((i & 1u) * 16u)) & 0xffffu));
}`);
  }
  if (access !== "read") {
    lines.push(`fn store_${name}(i: u32, value: f32) {
  let shift = (i & 1u) * 16u;
  atomicAnd(&${data}[i >> 1u], ~(0xffffu << shift));
  atomicOr(&${data}[i >> 1u], ${encode}(bitcast<u32>(value)) << shift);
}`);
  }
  return lines.join("\n");
}

/** WGSL expression: the vec4f that two words of 16-bit elements hold. */
export function unpackWords(dtype: "f16" | "bf16", first: string, second: string): string {
  if (dtype === "f16") return `vec4f(unpack2x16float(${first}), unpack2x16float(${second}))`;
  return (
    `bitcast<vec4f>(vec4u(${first} << 16u, ${first} & 0xffff0000u, ` + `${second} << 16u, ${second} & 0xffff0000u))`
  );
}

/**
 * A float operand whose elements are moved as bit patterns: `load_NAME(i)` and `store_NAME(i, bits)` in units of 4 or 1
 * elements, each element in a u32 of its own (vec4u or u32). Stores of single 16-bit elements as in floatOperand.
 */
export function bitsOperand(
  name: string,
  binding: number,
  dtype: FloatDType,
  unit: 1 | 4,
  access: "read" | "write",
): string {
  if (unit === 1) return rawOperand(name, binding, dtype === "f32" ? 4 : 2, access);
  if (dtype === "f32") return rawOperand(name, binding, 16, access);
  const data = `${name}_data`;
  if (access === "read") {
    return `${storage(binding, access, data, "vec2u")}
fn load_${name}(i: u32) -> vec4u {
  let words = ${data}[i];
  return vec4u(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);
}`;
  }
  return `${storage(binding, access, data, "vec2u")}
fn store_${name}(i: u32, bits: vec4u) { ${data}[i] = vec2u(bits.x | (bits.y << 16u), bits.z | (bits.w << 16u)); }`;
}

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
