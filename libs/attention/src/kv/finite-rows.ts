import { forEachOffset, type Tensor } from "@lockstep/tensor";
import { NonFiniteKeyValue } from "../errors.ts";

/** Exponent bits of each float dtype's elements: all set in NaN and infinities. */
const EXPONENTS: Readonly<Record<string, number>> = { f32: 0x7f800000, f16: 0x7c00, bf16: 0x7f80 };

/**
 * Throws NonFiniteKeyValue when rows hold a NaN or an infinity, naming the first.
 * @param rows [T, kvHeads, D], f32, f16 or bf16; rows of other dtypes hold neither
 */
export function expectFiniteRows(layer: number, name: string, rows: Tensor): void {
  const exponent = EXPONENTS[rows.dtype];
  if (exponent === undefined) return;
  const { elements } = rows;
  const { buffer, byteOffset, length } = elements;
  const bits = elements instanceof Float32Array ? new Uint32Array(buffer, byteOffset, length) : elements;
  const holdsNumber = (at: number): boolean => ((bits[at] ?? 0) & exponent) !== exponent;
  let sound = true;
  if (rows.isContiguous) for (let at = 0; at < length; at++) sound = sound && holdsNumber(at);
  else forEachOffset(rows.shape, rows.strides, (at) => (sound = sound && holdsNumber(at)));
  if (sound) return;
  const [, heads = 1, dim = 1] = rows.shape;
  const numbers = rows.toNumbers();
  const at = numbers.findIndex((number) => !Number.isFinite(number));
  const row = Math.floor(at / dim);
  throw new NonFiniteKeyValue(layer, name, Math.floor(row / heads), row % heads, numbers[at] ?? Number.NaN);
}
