// Cases of the collectives and a plain reference for each: inputs are a function of (seed, rank), so every rank can
// compute what all ranks bring and what it must get. The reference folds with Math.fround in rank order, and converts
// 16-bit floats with the tensor package's scalar code: nothing is shared with the kernels under test.

import {
  bfloat16ToNumber,
  contiguousStrides,
  DTYPE_BYTES,
  DTYPES,
  type DType,
  type ElementArray,
  elementArray,
  float16ToNumber,
  forEachOffset,
  numberToBfloat16,
  numberToFloat16,
  type SharedHeap,
  Tensor,
} from "@lockstep/tensor";
import type { Reduction } from "../src/index.ts";

/** Every dtype that can be reduced; f8e4m3 and i8 are only moved. */
export const SUMMED_DTYPES: readonly DType[] = DTYPES.filter((dtype) => dtype !== "f8e4m3" && dtype !== "i8");

/** How a tensor lies in memory. */
export type Placement = "contiguous" | "sliced" | "transposed" | "stepped";

export interface CollectiveCase {
  readonly op:
    | "allGather"
    | "allGatherCoalesced"
    | "reduceScatter"
    | "allReduce"
    | "allToAll"
    | "broadcast"
    | "readPeers";
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly dim: number;
  readonly reduction: Reduction;
  readonly input: Placement;
  readonly output: Placement;
  readonly inPlace: boolean;
  readonly root: number;
}

/** floor(length * part / parts), written differently from the library. */
export function chunkBegin(length: number, part: number, parts: number): number {
  return (length * part - ((length * part) % parts)) / parts;
}

/** Whole numbers in [0, 2^32) from a seed: xorshift32. */
export function randomWords(seed: number): () => number {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) >>> 0 || 1;
  return () => {
    state = (state ^ (state << 13)) >>> 0;
    state = (state ^ (state >>> 17)) >>> 0;
    state = (state ^ (state << 5)) >>> 0;
    return state;
  };
}

/** A value a dtype holds exactly, as the number it stands for. Float values vary in size so that sums round. */
export function randomValue(dtype: DType, next: () => number): number {
  const word = next();
  if (dtype === "i32") return word | 0;
  if (dtype === "u32") return word;
  if (dtype === "u8") return word & 0xff;
  const value = ((word / 2 ** 32) * 2 - 1) * 2 ** ((next() % 9) - 4);
  return roundTo(dtype, value);
}

/** Rounds a number to what the dtype holds. */
export function roundTo(dtype: DType, value: number): number {
  if (dtype === "f16") return float16ToNumber(numberToFloat16(value));
  if (dtype === "bf16") return bfloat16ToNumber(numberToBfloat16(value));
  if (dtype === "f32") return Math.fround(value);
  if (dtype === "i32") return value | 0;
  return dtype === "u32" ? value >>> 0 : value & 0xff;
}

export function randomValues(dtype: DType, count: number, seed: number): number[] {
  const next = randomWords(seed);
  return Array.from({ length: count }, () => randomValue(dtype, next));
}

/** Left fold in rank order, seeded with rank 0's value, in f32 for floats and modulo 2^bits for integers. */
export function foldReference(dtype: DType, reduction: Reduction, contributions: readonly number[]): number {
  const [first = 0, ...rest] = contributions;
  const isFloat = dtype === "f32" || dtype === "f16" || dtype === "bf16";
  let value = first;
  for (const next of rest) {
    if (reduction === "max") value = Math.max(value, next);
    else if (reduction === "min") value = Math.min(value, next);
    else value = isFloat ? Math.fround(value + next) : roundTo(dtype, value + next);
  }
  return roundTo(dtype, value);
}

/** A tensor of `shape` with undefined contents, placed as asked inside a larger allocation that `release` frees. */
export function place(
  heap: SharedHeap,
  dtype: DType,
  shape: readonly number[],
  placement: Placement,
): { tensor: Tensor; release: () => void } {
  const last = shape.length - 1;
  const swap = shape.length > 1 && placement === "transposed";
  const base = Tensor.empty(
    heap,
    dtype,
    shape.map((size, dim) => {
      if (swap && dim === 0) return shape[last] ?? 0;
      if (swap && dim === last) return shape[0] ?? 0;
      if (dim === last && placement === "sliced") return size + 3;
      if (dim === last && placement === "stepped") return size * 2;
      return size;
    }),
  );
  const release = (): void => base.free();
  if (swap) return { tensor: base.transpose(0, last), release };
  if (last >= 0 && placement === "sliced") {
    return { tensor: base.slice(last, 2, 2 + (shape[last] ?? 0)), release };
  }
  if (last >= 0 && placement === "stepped") {
    return { tensor: base.slice(last, 0, 2 * (shape[last] ?? 0), 2), release };
  }
  return { tensor: base, release };
}

/** The values of indexes [begin, end) of dimension `dim` of a row-major array. */
export function chunkOf(
  values: readonly number[],
  shape: readonly number[],
  dim: number,
  begin: number,
  end: number,
): number[] {
  const strides = contiguousStrides(shape);
  const step = strides[dim] ?? 1;
  const length = shape[dim] ?? 0;
  return values.filter((_, index) => {
    const at = Math.floor(index / step) % Math.max(1, length);
    return at >= begin && at < end;
  });
}

/** Numbers as the dtype stores them: 16-bit floats as their bit patterns. */
export function rawOf(dtype: DType, values: readonly number[]): ElementArray {
  const raw = elementArray(dtype, new ArrayBuffer(values.length * DTYPE_BYTES[dtype]), 0, values.length);
  const encode = dtype === "f16" ? numberToFloat16 : dtype === "bf16" ? numberToBfloat16 : (value: number) => value;
  values.forEach((value, index) => {
    raw[index] = encode(value);
  });
  return raw;
}

/** Writes raw elements in row-major order. */
export function writeRaw(tensor: Tensor, raw: ElementArray): void {
  const elements = tensor.elements;
  if (tensor.isContiguous) elements.set(raw);
  else {
    forEachOffset(tensor.shape, tensor.strides, (offset, index) => {
      elements[offset] = raw[index] ?? 0;
    });
  }
}

/** Elements as integers: equal exactly when their bits are. */
function bitsOf(elements: ElementArray): Exclude<ElementArray, Float32Array> {
  return elements instanceof Float32Array
    ? new Uint32Array(elements.buffer, elements.byteOffset, elements.length)
    : elements;
}

/** Index of the first element, in row-major order, whose bits differ from `raw`; -1 when none does. */
export function firstDifference(tensor: Tensor, raw: ElementArray): number {
  if (tensor.size !== raw.length) return raw.length;
  const got = bitsOf(tensor.elements);
  const wanted = bitsOf(raw);
  let first = -1;
  if (tensor.isContiguous) {
    for (let index = 0; index < wanted.length; index++) if (got[index] !== wanted[index]) return index;
  } else {
    forEachOffset(tensor.shape, tensor.strides, (offset, index) => {
      if (first === -1 && got[offset] !== wanted[index]) first = index;
    });
  }
  return first;
}
