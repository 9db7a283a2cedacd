import type { MatrixUnits } from "../../device/matrix-units.ts";

/** Sizes of the matrices and of the workgroup memory that they are loaded from; see matrix-attention.wgsl. */
export interface MatrixSizes {
  /** Columns of right and result matrices: 8 or 16. */
  readonly tileRows: number;
  readonly lanesPerRow: number;
  /** Words of 8 bytes. */
  readonly keyWords: number;
  /** 0: values are the keys' first columns. */
  readonly valueWords: number;
  /** Words of 4 bytes. */
  readonly weightWords: number;
  readonly scratchFloats: number;
}

/** The directives that a kernel with matrix operations begins with. */
export function matrixDirectives(units: MatrixUnits): string {
  if (units === "emulated") return "";
  return `enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);`;
}

/**
 * WGSL for 16-bit tiles in workgroup memory and for products of them, one per subgroup of 32 threads. A left matrix is
 * [16, 16], a right one [16, tileRows], a result [16, tileRows] in f32. Places count elements; memory holds
 * - keys [.., KEY_PITCH]: `store_key_word(word, value)` of 8 bytes, `key_fragment(place, thread) -> Left` of 16 keys'
 *   columns
 * - values [.., VALUE_PITCH]: `store_value_word`, `value_fragment(place, thread) -> Left` of 16 columns of 16 keys
 * - queries, in the keys' memory: `query_fragment(place, thread) -> Right` of tileRows rows
 * - weights [.., WEIGHT_PITCH]: `store_weight_word(word, value)`, `weight_fragment(place, thread) -> Right`
 * - `scratch`, f32, a result's columns one after another: `store_result(place, pitch, result, thread)`, `load_result`;
 *   `store_sums`, the same to `out` and `multiply_add(left, right, result, thread) -> Result`. Also `row_maximum(value,
 *   thread)` and `row_sum` over `lanesPerRow` consecutive threads, `packed(vec4f) -> vec2u` in f16, and `rounded2`,
 *   `rounded4` to f16's digits (in integers: a driver may take a conversion there and back for nothing). All in uniform
 *   control flow.
 */
export function matrixOperations(units: MatrixUnits, sizes: MatrixSizes): string {
  return [units === "native" ? native(sizes) : emulated(sizes), PACKING].join("\n");
}

const PACKING = `
fn packed(v: vec4f) -> vec2u { return vec2u(pack2x16float(v.xy), pack2x16float(v.zw)); }
fn rounded2(v: vec2f) -> vec2f { return bitcast<vec2f>((bitcast<vec2u>(v) + 0x1000u) & vec2u(0xffffe000u)); }
fn rounded4(v: vec4f) -> vec4f { return bitcast<vec4f>((bitcast<vec4u>(v) + 0x1000u) & vec4u(0xffffe000u)); }`;

function native(sizes: MatrixSizes): string {
  const { tileRows, lanesPerRow, keyWords, valueWords, weightWords, scratchFloats } = sizes;
  const valueMemory = valueWords === 0 ? "key_memory" : "value_memory";
  const overRow = (combine: (a: string, b: string) => string): string => {
    const lines: string[] = [];
    for (let distance = lanesPerRow / 2; distance >= 1; distance /= 2) {
      lines.push(`  result = ${combine("result", `subgroupShuffleXor(result, ${distance}u)`)};`);
    }
    return lines.join("\n");
  };
  return `
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, ${tileRows}, 16>;
alias Result = subgroup_matrix_result<f32, ${tileRows}, 16>;
var<workgroup> key_memory: array<f16, ${4 * keyWords}>;
${valueWords === 0 ? "" : `var<workgroup> value_memory: array<f16, ${4 * valueWords}>;`}
var<workgroup> weight_memory: array<f16, ${2 * weightWords}>;
var<workgroup> scratch: array<f32, ${scratchFloats}>;

fn store_key_word(word: u32, value: vec2u) {
${[0, 1].map((i) => storeHalves("key_memory", `word * 4u + ${2 * i}u`, `value[${i}]`)).join("\n")}
}
fn store_value_word(word: u32, value: vec2u) {
${[0, 1].map((i) => storeHalves(valueMemory, `word * 4u + ${2 * i}u`, `value[${i}]`)).join("\n")}
}
fn store_weight_word(word: u32, value: u32) {
${storeHalves("weight_memory", "word * 2u", "value")}
}
fn key_fragment(place: u32, thread: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&key_memory, place, KEY_PITCH);
}
fn query_fragment(place: u32, thread: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&key_memory, place, KEY_PITCH);
}
fn value_fragment(place: u32, thread: u32) -> Left {
  return subgroupMatrixLoad<Left, col_major>(&${valueMemory}, place, VALUE_PITCH);
}
fn weight_fragment(place: u32, thread: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&weight_memory, place, WEIGHT_PITCH);
}
fn multiply_add(left: Left, right: Right, result: Result, thread: u32) -> Result {
  return subgroupMatrixMultiplyAccumulate(left, right, result);
}
fn store_result(place: u32, pitch: u32, result: Result, thread: u32) {
  subgroupMatrixStore<col_major>(&scratch, place, result, pitch);
}
fn store_sums(place: u32, pitch: u32, result: Result, thread: u32) {
  subgroupMatrixStore<col_major>(&out, place, result, pitch);
}
fn load_result(place: u32, pitch: u32, thread: u32) -> Result {
  return subgroupMatrixLoad<Result, col_major>(&scratch, place, pitch);
}
fn row_maximum(value: f32, thread: u32) -> f32 {
  var result = value;
${overRow((a, b) => `max(${a}, ${b})`)}
  return result;
}
fn row_sum(value: f32, thread: u32) -> f32 {
  var result = value;
${overRow((a, b) => `${a} + ${b}`)}
  return result;
}`;
}

/** WGSL: the two f16 values of a word. Memory that matrices are loaded from is an array of f16, whatever is stored. */
function storeHalves(memory: string, place: string, word: string): string {
  return `  ${memory}[${place}] = bitcast<vec2<f16>>(${word}).x;
  ${memory}[${place} + 1u] = bitcast<vec2<f16>>(${word}).y;`;
}

/**
 * Of a result, thread i of a subgroup holds `held` elements of column i / (16 / held); of a right matrix, that column.
 */
function emulated(sizes: MatrixSizes): string {
  const { tileRows, lanesPerRow, keyWords, valueWords, weightWords, scratchFloats } = sizes;
  const held = tileRows / 2;
  const parts = 16 / held;
  const valueMemory = valueWords === 0 ? "key_memory" : "value_memory";
  const halfOf = (memory: string): string => `unpack2x16float(${memory}[place / 4u][(place % 4u) / 2u])[place % 2u]`;
  const column = (element: string, pitch: string): string => `
  var right: Right;
  for (var k = 0u; k < 16u; k++) { right[k] = ${element}(place + ((thread % 32u) / ${parts}u) * ${pitch} + k); }
  return right;`;
  const overRow = (combine: string): string => `
  exchanged[thread] = value;
  workgroupBarrier();
  let first = thread - thread % ${lanesPerRow}u;
  var result = exchanged[first];
  for (var lane = 1u; lane < ${lanesPerRow}u; lane++) {
    let other = exchanged[first + lane];
    result = ${combine};
  }
  workgroupBarrier();
  return result;`;
  return `
struct Left { place: u32, row_step: u32, k_step: u32, is_value: bool }
alias Right = array<f32, 16>;
alias Result = array<f32, ${held}>;
var<workgroup> key_memory: array<vec2u, ${keyWords}>;
${valueWords === 0 ? "" : `var<workgroup> value_memory: array<vec2u, ${valueWords}>;`}
var<workgroup> weight_memory: array<u32, ${weightWords}>;
var<workgroup> scratch: array<f32, ${scratchFloats}>;
var<workgroup> exchanged: array<f32, THREADS>;

fn store_key_word(word: u32, value: vec2u) { key_memory[word] = value; }
fn store_value_word(word: u32, value: vec2u) { ${valueMemory}[word] = value; }
fn store_weight_word(word: u32, value: u32) { weight_memory[word] = value; }
fn key_half(place: u32) -> f32 { return ${halfOf("key_memory")}; }
fn value_half(place: u32) -> f32 { return ${halfOf(valueMemory)}; }
fn weight_half(place: u32) -> f32 { return unpack2x16float(weight_memory[place / 2u])[place % 2u]; }
fn key_fragment(place: u32, thread: u32) -> Left { return Left(place, KEY_PITCH, 1u, false); }
fn value_fragment(place: u32, thread: u32) -> Left { return Left(place, 1u, VALUE_PITCH, true); }
fn query_fragment(place: u32, thread: u32) -> Right {${column("key_half", "KEY_PITCH")}
}
fn weight_fragment(place: u32, thread: u32) -> Right {${column("weight_half", "WEIGHT_PITCH")}
}
fn multiply_add(left: Left, right: Right, result: Result, thread: u32) -> Result {
  var totals = result;
  for (var i = 0u; i < ${held}u; i++) {
    let at = left.place + ((thread % ${parts}u) * ${held}u + i) * left.row_step;
    for (var k = 0u; k < 16u; k++) {
      let place = at + k * left.k_step;
      var factor = 0.0;
      if (left.is_value) { factor = value_half(place); } else { factor = key_half(place); }
      totals[i] = fma(factor, right[k], totals[i]);
    }
  }
  return totals;
}
fn store_result(place: u32, pitch: u32, result: Result, thread: u32) {
  let at = place + ((thread % 32u) / ${parts}u) * pitch + (thread % ${parts}u) * ${held}u;
  for (var i = 0u; i < ${held}u; i++) { scratch[at + i] = result[i]; }
}
fn store_sums(place: u32, pitch: u32, result: Result, thread: u32) {
  let at = place + ((thread % 32u) / ${parts}u) * pitch + (thread % ${parts}u) * ${held}u;
  for (var i = 0u; i < ${held}u; i++) { out[at + i] = result[i]; }
}
fn load_result(place: u32, pitch: u32, thread: u32) -> Result {
  let at = place + ((thread % 32u) / ${parts}u) * pitch + (thread % ${parts}u) * ${held}u;
  var result: Result;
  for (var i = 0u; i < ${held}u; i++) { result[i] = scratch[at + i]; }
  return result;
}
fn row_maximum(value: f32, thread: u32) -> f32 {${overRow("max(result, other)")}
}
fn row_sum(value: f32, thread: u32) -> f32 {${overRow("result + other")}
}`;
}
