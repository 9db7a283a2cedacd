// The world-invariant sum against the exact one, in BigInt: its bound, its bits in any order and among any zeros.

import { describe, expect, test } from "bun:test";
import { type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import * as fc from "fast-check";
import { firstDifference, place, randomWords, rawOf, roundTo } from "../../test/collective-cases.ts";
import { OperandTable } from "./operand-table.ts";
import { compileReduceKernels, instantiateReduceKernels } from "./reduce.ts";

const FLOATS = ["f32", "f16", "bf16"] as const;
type Float = (typeof FLOATS)[number];
/** Bits of a significand, exponent of the smallest normal number, and of the largest. */
const FORMS = { f32: [24, -126, 127], f16: [11, -14, 15], bf16: [8, -126, 127] } as const;
/** All finite f32 are whole multiples of 2^-149. */
const UNIT = 149;

const heap = SharedHeap.create(1 << 22);
const kernels = instantiateReduceKernels(await compileReduceKernels(), heap.memory);
const scratch = heap.allocate(16_384);
const words = new Int32Array(heap.buffer, 0, heap.buffer.byteLength / 4);
const table = new OperandTable(kernels, words, scratch / 4, scratch);

function sum(target: Tensor, sources: readonly Tensor[]): void {
  table.begin(target.dtype, target.shape, -1, 0);
  table.tensor(0, target, 0, 0);
  sources.forEach((source, index) => {
    table.tensor(1 + index, source, 0, 0);
  });
  table.fold(sources.length, "world-invariant sum");
}

/** The bits of the sums of what each source brings to each element. */
function sumOf(dtype: DType, sources: readonly (readonly number[])[]): number[] {
  const tensors = sources.map((values) => Tensor.from(heap, dtype, [values.length], [...values]));
  const target = Tensor.zeros(heap, dtype, [sources[0]?.length ?? 0]);
  sum(target, tensors);
  const { elements } = target;
  const bits = elements instanceof Float32Array ? new Uint32Array(elements.slice().buffer) : elements;
  const result = Array.from(bits);
  for (const tensor of [...tensors, target]) tensor.free();
  return result;
}

function numbersOf(dtype: Float, bits: readonly number[]): number[] {
  if (dtype !== "f32") {
    const tensor = Tensor.zeros(heap, dtype, [bits.length]);
    tensor.elements.set(bits);
    const numbers = [...tensor.toNumbers()];
    tensor.free();
    return numbers;
  }
  return [...new Float32Array(Uint32Array.from(bits).buffer)];
}

/** A finite f32 in units of 2^-149. */
function unitsOf(value: number): bigint {
  const [bits = 0] = new Uint32Array(Float32Array.of(value).buffer);
  const exponent = (bits >>> 23) & 0xff;
  const significand = BigInt((bits & 0x7fffff) | (exponent === 0 ? 0 : 0x800000));
  const units = significand << BigInt(Math.max(exponent, 1) - 1);
  return value < 0 ? -units : units;
}

/** Half a unit in the last place of what the dtype has for a sum of this many units; 2^-150 at least. */
function halfUlp(dtype: Float, units: bigint): number {
  const [precision, smallest] = FORMS[dtype];
  const magnitude = units < 0n ? -units : units;
  const exponent = Math.max(magnitude.toString(2).length - 1 - UNIT, smallest);
  return 2 ** (exponent - precision);
}

const asNumber = (units: bigint): number => Number(units) * 2 ** -UNIT;

/** Values that the dtype has, over `binades` powers of two below `top`. */
function addends(dtype: Float, count: number, top: number, binades: number, seed: number): number[] {
  const next = randomWords(seed);
  return Array.from({ length: count }, () => {
    const sign = next() % 2 === 0 ? 1 : -1;
    return roundTo(dtype, sign * (1 + next() / 2 ** 32) * 2 ** (top - (next() % (binades + 1))));
  });
}

/** Addends of an element, as they are drawn. */
interface Drawn {
  readonly dtype: Float;
  readonly count: number;
  /** Exponent of the largest, and of how many powers of two below it there are others. */
  readonly top: number;
  readonly binades: number;
  /** All but the first come with both signs. */
  readonly cancels: boolean;
  readonly seed: number;
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  dtype: fc.constantFrom(...FLOATS),
  count: fc.integer({ min: 1, max: 12 }),
  top: fc.integer({ min: -160, max: 126 }),
  binades: fc.constantFrom(0, 3, 20, 44, 45, 90),
  cancels: fc.boolean(),
  seed: fc.nat({ max: 1e6 }),
});

function drawnAddends({ dtype, count, top, binades, cancels, seed }: Drawn): number[] {
  const [, , largest] = FORMS[dtype];
  const values = addends(dtype, count, Math.min(top, largest - 1), binades, seed);
  return cancels ? [...values, ...values.slice(1).map((value) => -value)] : values;
}

function shuffled<T>(values: readonly T[], seed: number): T[] {
  const next = randomWords(seed);
  const result = [...values];
  for (let at = result.length - 1; at > 0; at--) {
    const other = next() % (at + 1);
    const value = result[at];
    const swapped = result[other];
    if (value === undefined || swapped === undefined) continue;
    result[at] = swapped;
    result[other] = value;
  }
  return result;
}

describe("the world-invariant sum", () => {
  test("has the same bits in any order and among any zeros of either sign", () => {
    fc.assert(
      fc.property(drawn, (drawing: Drawn) => {
        const values = drawnAddends(drawing);
        const [bits] = sumOf(
          drawing.dtype,
          values.map((value) => [value]),
        );
        for (let turn = 0; turn < 4; turn++) {
          const zeros = Array.from({ length: 3 * turn }, (_, at) => (at % 2 === 0 ? 0 : -0));
          const other = shuffled([...values, ...zeros], drawing.seed + turn);
          expect(
            sumOf(
              drawing.dtype,
              other.map((value) => [value]),
            ),
          ).toEqual([bits ?? -1]);
        }
      }),
      { numRuns: 1000, seed: 17 },
    );
  });

  test("is within its bound of the exact sum, and closer than a fold in f32 may be", () => {
    fc.assert(
      fc.property(drawn, (drawing: Drawn) => {
        const { dtype } = drawing;
        const values = drawnAddends(drawing);
        const units = values.map(unitsOf).reduce((a, b) => a + b, 0n);
        const [got = Number.NaN] = numbersOf(
          dtype,
          sumOf(
            dtype,
            values.map((value) => [value]),
          ),
        );
        const largest = Math.max(...values.map(Math.abs));
        const lattice = dtype === "f16" ? 0 : values.length * 2 ** -45 * largest;
        if (!Number.isFinite(got)) {
          const [, , top] = FORMS[dtype];
          expect(Math.abs(asNumber(units)) + lattice).toBeGreaterThanOrEqual(2 ** top * (2 - 2 ** -FORMS[dtype][0]));
          return;
        }
        const error = units - unitsOf(got);
        // The lattice may lift the sum into the next binade.
        const rounding = halfUlp(dtype, units) * (lattice > 0 ? 1 + 2 ** -20 : 1);
        const atBorder = lattice > 0 ? halfUlp(dtype, unitsOf(got)) : 0;
        expect(Math.abs(asNumber(error))).toBeLessThanOrEqual(lattice + Math.max(rounding, atBorder));
      }),
      { numRuns: 2000, seed: 18 },
    );
  });

  test("rounds f16 and bf16 once, to nearest, ties to even", () => {
    // 2049 lies between 2048 and 2050; the addend below f32's last place decides.
    const tiny = 2 ** -24;
    expect(numbersOf("f16", sumOf("f16", [[2048], [1]]))).toEqual([2048]);
    expect(numbersOf("f16", sumOf("f16", [[2048], [1], [tiny]]))).toEqual([2050]);
    expect(numbersOf("f16", sumOf("f16", [[2050], [1], [-tiny]]))).toEqual([2050]);
    expect(numbersOf("f16", sumOf("f16", [[2050], [1]]))).toEqual([2052]);
    expect(numbersOf("bf16", sumOf("bf16", [[256], [1]]))).toEqual([256]);
    expect(numbersOf("bf16", sumOf("bf16", [[256], [1], [2 ** -30]]))).toEqual([258]);
    expect(numbersOf("bf16", sumOf("bf16", [[258], [1], [-(2 ** -30)]]))).toEqual([258]);
    expect(numbersOf("f32", sumOf("f32", [[2 ** 24], [1], [2 ** -10]]))).toEqual([2 ** 24 + 2]);
  });

  test("takes what cancels as nothing", () => {
    const big = 2 ** 30;
    for (const order of [
      [big, 1, -big, 1],
      [1, 1, big, -big],
      [big, -big, 1, 1],
    ]) {
      for (const dtype of ["f32", "bf16"] as const) {
        expect(
          numbersOf(
            dtype,
            sumOf(
              dtype,
              order.map((value) => [value]),
            ),
          ),
        ).toEqual([2]);
      }
    }
  });

  test("gives +0 for every zero, one NaN for every NaN, and infinities as they are", () => {
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
    for (const dtype of FLOATS) {
      const quiet = dtype === "f32" ? 0x7fc00000 : dtype === "f16" ? 0x7e00 : 0x7fc0;
      expect(
        sumOf(dtype, [
          [-0, 1, -0],
          [-0, -1, 0],
        ]),
      ).toEqual([0, 0, 0]);
      expect(sumOf(dtype, [[-0]])).toEqual([0]);
      expect(
        sumOf(dtype, [
          [nan, 1, inf, -inf],
          [1, nan, -inf, inf],
        ]),
      ).toEqual([quiet, quiet, quiet, quiet]);
      expect(
        numbersOf(
          dtype,
          sumOf(dtype, [
            [inf, 1, -inf, 1],
            [1, inf, 2, -inf],
          ]),
        ),
      ).toEqual([inf, inf, -inf, -inf]);
      // A NaN of another payload and sign.
      const odd = Tensor.zeros(heap, dtype, [1]);
      const bits =
        odd.elements instanceof Float32Array ? new Uint32Array(heap.buffer, odd.byteOffset, 1) : odd.elements;
      bits[0] = dtype === "f32" ? 0xffabcdef : dtype === "f16" ? 0xfd12 : 0xffab;
      const target = Tensor.zeros(heap, dtype, [1]);
      sum(target, [odd]);
      const got = target.elements instanceof Float32Array ? new Uint32Array(heap.buffer, target.byteOffset, 1) : [];
      expect(got[0] ?? target.elements[0]).toBe(quiet);
      odd.free();
      target.free();
    }
  });

  test("overflows to infinity only where the sum does", () => {
    const most = Math.fround(3.4028234663852886e38);
    for (const order of [
      [most, most, -most],
      [most, -most, most],
      [-most, most, most],
    ]) {
      expect(
        numbersOf(
          "f32",
          sumOf(
            "f32",
            order.map((value) => [value]),
          ),
        ),
      ).toEqual([most]);
    }
    expect(numbersOf("f16", sumOf("f16", [[65504], [65504], [-65504]]))).toEqual([65504]);
    expect(
      numbersOf(
        "f16",
        sumOf("f16", [
          [65504, -65504],
          [65504, -65504],
        ]),
      ),
    ).toEqual([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
  });

  test("is exact for 255 addends of the largest magnitude", () => {
    const value = 1 + 2 ** -23;
    expect(
      sumOf(
        "f32",
        Array.from({ length: 255 }, () => [value]),
      ),
    ).toEqual(sumOf("f32", [[Math.fround(255 * value)]]));
  });

  test("does not depend on strides, alignment, length, or on which source the result overwrites", () => {
    for (const dtype of FLOATS) {
      for (const from of ["contiguous", "sliced", "transposed", "stepped"] as const) {
        for (const shape of [
          [3, 5],
          [1, 7],
          [4, 16],
          [2, 1],
        ]) {
          const size = (shape[0] ?? 0) * (shape[1] ?? 0);
          const columns = [1, 2, 3].map((seed) => addends(dtype, size, 0, 20, seed));
          const expected = sumOf(dtype, columns);
          const sources = columns.map((values) => {
            const placed = place(heap, dtype, shape, from);
            placed.tensor.set(values);
            return placed;
          });
          const tensors = sources.map(({ tensor }) => tensor);
          const [, second] = tensors;
          if (second === undefined) throw new Error("no second source");
          sum(second, tensors);
          expect(firstDifference(second, rawOf(dtype, numbersOf(dtype, expected)))).toBe(-1);
          for (const source of sources) source.release();
        }
      }
    }
  });

  test("of integers is their sum", () => {
    expect(
      sumOf("i32", [
        [2 ** 31 - 1, 5],
        [1, -7],
      ]),
    ).toEqual([-(2 ** 31), -2]);
    expect(sumOf("u32", [[2 ** 32 - 1], [2]])).toEqual([1]);
    expect(sumOf("u8", [[200], [100]])).toEqual([44]);
  });
});
