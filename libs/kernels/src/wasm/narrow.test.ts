// Rounding in the wasm kernels, bit for bit: every number of the narrow formats, every midpoint between two, and what
// lies beside it.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  bfloat16ToNumber,
  type DType,
  float8ToNumber,
  float16ToNumber,
  numberToBfloat16,
  numberToFloat8,
  numberToFloat16,
  SharedHeap,
  Tensor,
} from "@lockstep/tensor";
import fc from "fast-check";
import { openBackend } from "../backends/open-backend.ts";
import { rawElements } from "../reference/raw-elements.ts";

setDefaultTimeout(60_000);

const heap = SharedHeap.create(64 << 20);
const wasm = await openBackend("wasm", { heap });
afterAll(() => wasm.close());

const floats = new Float32Array(1);
const words = new Uint32Array(floats.buffer);

function f32Bits(value: number): number {
  floats[0] = value;
  return words[0] ?? 0;
}

function f32OfBits(bits: number): number {
  words[0] = bits;
  return floats[0] ?? 0;
}

type Narrow = "f16" | "bf16" | "f8e4m3" | "i8";

const NANS: Record<Narrow, number> = { f16: 0x7e00, bf16: 0x7fc0, f8e4m3: 0x7f, i8: 0 };
const SIGNS: Record<Narrow, number> = { f16: 0x8000, bf16: 0x8000, f8e4m3: 0x80, i8: 0 };

/** What an f32 pattern becomes. */
function narrowed(dtype: Narrow, bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return NANS[dtype] | (bits >>> 31 === 1 ? SIGNS[dtype] : 0);
  const value = f32OfBits(bits);
  if (dtype === "f16") return numberToFloat16(value);
  if (dtype === "bf16") return numberToBfloat16(value);
  if (dtype === "f8e4m3") return numberToFloat8(value);
  const floor = Math.floor(value);
  const up = value - floor > 0.5 || (value - floor === 0.5 && floor % 2 !== 0);
  return Math.min(127, Math.max(-128, up ? floor + 1 : floor)) & 0xff;
}

function narrowPatterns(dtype: Narrow, patterns: readonly number[], columns: number): string[] {
  const rows = Math.ceil(patterns.length / columns);
  const key = Tensor.zeros(heap, "f32", [rows, 1, columns]);
  const source = new Uint32Array(heap.buffer, key.byteOffset, key.size);
  source.set(patterns);
  const keyCache = Tensor.zeros(heap, dtype, [rows, 1, 1, columns]);
  const keyScale = dtype === "f8e4m3" || dtype === "i8" ? { keyScale: [1] } : {};
  wasm.writeKvCache({ key, slotMapping: Array.from({ length: rows }, (_, row) => row), keyCache, ...keyScale });
  const got = rawElements(keyCache);
  const wrong: string[] = [];
  for (const [index, bits] of patterns.entries()) {
    const want = narrowed(dtype, bits);
    if (got[index] !== want)
      wrong.push(`${bits.toString(16)} to ${got[index]?.toString(16)} instead of ${want.toString(16)}`);
  }
  key.free();
  keyCache.free();
  return wrong.slice(0, 5);
}

/** Numbers of a format from 0 up, and one beyond the last. */
function numbersOf(dtype: Narrow): number[] {
  const of = (count: number, number: (bits: number) => number): number[] =>
    Array.from({ length: count }, (_, bits) => number(bits));
  if (dtype === "f16") return [...of(0x7c00, float16ToNumber), 65536];
  if (dtype === "bf16") return of(0x7f80, bfloat16ToNumber);
  if (dtype === "f8e4m3") return [...of(0x7f, float8ToNumber), 480];
  return of(130, (bits) => bits);
}

const SPECIAL = [0x7f800000, 0x7f800001, 0x7f80ffff, 0x7fbfffff, 0x7fc00000, 0x7fc0fb98, 0x7fff8000, 0x7fffffff];
const EXTREMES = [0, 1, 0x7fff, 0x8000, 0x7fffff, 0x800000, 0x7f7fffff, 0x477fefff, 0x477ff000, 0x477fffff, 0x47800000];

/** Patterns of both signs around every number and midpoint of a format, of all exponents, and of infinity and NaN. */
function patternsFor(dtype: Narrow): number[] {
  const magnitudes = new Set([...SPECIAL, ...EXTREMES]);
  const numbers = numbersOf(dtype);
  for (const [index, number] of numbers.entries()) {
    const next = numbers[index + 1] ?? number;
    for (const value of [number, (number + next) / 2]) {
      const bits = f32Bits(value);
      for (const near of [bits - 1, bits, bits + 1]) if (near >= 0) magnitudes.add(near);
    }
  }
  for (let exponent = 0; exponent < 256; exponent++) {
    for (let bit = 0; bit < 23; bit++) magnitudes.add(((exponent << 23) | (1 << bit)) >>> 0);
    magnitudes.add(((exponent << 23) | 0x7fffff) >>> 0);
  }
  return [...magnitudes].flatMap((bits) => [bits, (bits | 0x80000000) >>> 0]);
}

for (const dtype of ["f16", "bf16", "f8e4m3", "i8"] as const) {
  test(`f32 rounds to ${dtype} around every number and midpoint, whatever a row's length`, () => {
    const patterns = patternsFor(dtype);
    for (const columns of [1024, 12, 7]) expect(narrowPatterns(dtype, patterns, columns)).toEqual([]);
  });

  test(`random f32 patterns round to ${dtype}`, () =>
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 1, maxLength: 200 }),
        fc.integer({ min: 1, max: 40 }),
        (patterns, columns) => {
          expect(narrowPatterns(dtype, patterns, columns)).toEqual([]);
        },
      ),
      { numRuns: 300, seed: 3 },
    ));
}

const HALVES = [
  { dtype: "f16", toNumber: float16ToNumber, infinity: 0x7c00 },
  { dtype: "bf16", toNumber: bfloat16ToNumber, infinity: 0x7f80 },
] as const;

/** Odd, so that index * step goes through all patterns. */
const STEPS = [1, 40503, 25717];

/** All 65536 patterns in rows of `columns` each; the last row begins again from 0. */
function everyPattern(dtype: DType, columns: number): Tensor {
  const tensor = Tensor.empty(heap, dtype, [Math.ceil(65536 / columns), 1, columns]);
  const raw = rawElements(tensor);
  for (let index = 0; index < raw.length; index++) raw[index] = index & 0xffff;
  return tensor;
}

for (const { dtype, toNumber, infinity } of HALVES) {
  const want = (value: number, bits: number): number => {
    return (bits & 0x7fff) > infinity ? NANS[dtype] | (bits & 0x8000) : narrowed(dtype, f32Bits(value));
  };

  // Ranks of equal LSEs: every factor is 1 over their number, in f32.
  for (const [ranks, columns] of [
    [1, 512],
    [2, 512],
    [3, 40],
    [5, 1021],
    [7, 8],
  ] as const) {
    test(`every ${dtype} pattern times 1/${ranks}, in rows of ${columns}`, () => {
      const out = everyPattern(dtype, columns);
      const patterns = rawElements(out).slice();
      const lses = Tensor.zeros(heap, "f32", [ranks, out.dim(0), 1]);
      const lse = Tensor.empty(heap, "f32", [out.dim(0), 1]);
      wasm.correctAttnOut({ partialOut: out, lses, rank: 0, out, lse });
      const got = rawElements(out);
      const factor = Math.fround(1 / ranks);
      const wrong = [...patterns].filter(
        (bits, index) => got[index] !== want(Math.fround(toNumber(bits) * factor), bits),
      );
      expect(wrong.slice(0, 5)).toEqual([]);
      for (const tensor of [out, lses, lse]) tensor.free();
    });
  }

  for (const states of [2, 3]) {
    test(`sums of ${states} states of every finite ${dtype} pattern`, () => {
      const columns = 512;
      const outs = Array.from({ length: states }, () => Tensor.empty(heap, dtype, [64, 2, columns]));
      const raws = outs.map(rawElements);
      // Patterns that meet differ in sign and size; those that are not finite become ones of the same sign.
      for (const [state, raw] of raws.entries()) {
        const step = STEPS[state] ?? 1;
        for (let index = 0; index < raw.length; index++) {
          const bits = (index * step + 977 * state) & 0xffff;
          raw[index] = (bits & 0x7fff) >= infinity ? bits & 0xbfff : bits;
        }
      }
      const lses = outs.map(() => Tensor.zeros(heap, "f32", [64, 2]));
      const out = Tensor.empty(heap, dtype, [64, 2, columns]);
      wasm.mergeAttnStates({ outs, lses, out });
      const got = rawElements(out);
      const factor = Math.fround(1 / states);
      const wrong: number[] = [];
      for (let index = 0; index < got.length; index++) {
        let sum = 0;
        for (const raw of raws) sum = Math.fround(sum + Math.fround(toNumber(raw[index] ?? 0) * factor));
        const wanted = narrowed(dtype, f32Bits(sum));
        // The sign of a sum of zeros is not specified.
        if (got[index] !== wanted && !((wanted & 0x7fff) === 0 && ((got[index] ?? 1) & 0x7fff) === 0))
          wrong.push(index);
      }
      expect(wrong.slice(0, 5)).toEqual([]);
      for (const tensor of [...outs, ...lses, out]) tensor.free();
    });
  }
}
