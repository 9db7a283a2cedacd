import { describe, expect, test } from "bun:test";
import {
  bfloat16ToNumber,
  type DType,
  float16ToNumber,
  numberToBfloat16,
  numberToFloat16,
  SharedHeap,
  Tensor,
} from "@lockstep/tensor";
import {
  firstDifference,
  foldReference,
  place,
  randomValues,
  rawOf,
  SUMMED_DTYPES,
} from "../../test/collective-cases.ts";
import { REDUCTIONS, type Reduction } from "../wire/collective-header.ts";
import { OperandTable } from "./operand-table.ts";
import { compileReduceKernels, instantiateReduceKernels } from "./reduce.ts";

const heap = SharedHeap.create(1 << 22);
const kernels = instantiateReduceKernels(await compileReduceKernels(), heap.memory);
const scratch = heap.allocate(4096);
const words = new Int32Array(heap.buffer, 0, heap.buffer.byteLength / 4);
const table = new OperandTable(kernels, words, scratch / 4, scratch);

function fold(target: Tensor, sources: readonly Tensor[], reduction: Reduction): void {
  table.begin(target.dtype, target.shape, -1, 0);
  table.tensor(0, target, 0, 0);
  sources.forEach((source, index) => {
    table.tensor(1 + index, source, 0, 0);
  });
  table.fold(sources.length, reduction);
}

function folded(dtype: DType, reduction: Reduction, ...columns: number[][]): number[] {
  const sources = columns.map((column) => Tensor.from(heap, dtype, [column.length], column));
  const target = Tensor.zeros(heap, dtype, [columns[0]?.length ?? 0]);
  fold(target, sources, reduction);
  const result = [...target.toNumbers()];
  for (const tensor of [...sources, target]) tensor.free();
  return result;
}

describe("fold", () => {
  for (const dtype of SUMMED_DTYPES) {
    test.each([...REDUCTIONS])(`${dtype} %s, every length from 0 to 70, any alignment, 1 to 5 sources`, (reduction) => {
      for (let length = 0; length <= 70; length++) {
        const count = 1 + (length % 5);
        const columns = Array.from({ length: count }, (_, source) =>
          randomValues(dtype, length, 7 * length + source + 1),
        );
        const sources = columns.map((column, source) => {
          const base = Tensor.from(heap, dtype, [length + source], [...Array<number>(source).fill(0), ...column]);
          return { base, view: base.slice(0, source, length + source) };
        });
        const base = Tensor.empty(heap, dtype, [length + 3]).fill(55);
        fold(
          base.slice(0, 1, length + 1),
          sources.map(({ view }) => view),
          reduction,
        );
        const expected = Array.from({ length }, (_, at) =>
          foldReference(
            dtype,
            reduction,
            columns.map((column) => column[at] ?? 0),
          ),
        );
        expect(firstDifference(base.slice(0, 1, length + 1), rawOf(dtype, expected))).toBe(-1);
        // Nothing around the target was written.
        expect([base.at(0), base.at(length + 1), base.at(length + 2)]).toEqual([55, 55, 55]);
        for (const source of sources) source.base.free();
        base.free();
      }
    });
  }

  test("seeds with the first source: -0 stays -0", () => {
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      expect(folded(dtype, "sum", [-0, -0, 0], [-0, 0, -0]).map((value) => Object.is(value, -0))).toEqual([
        true,
        false,
        false,
      ]);
      expect(folded(dtype, "max", [-0, 0], [0, -0])).toEqual([0, 0]);
      expect(folded(dtype, "min", [-0, 0], [0, -0])).toEqual([-0, -0]);
    }
  });

  test("adds from left to right", () => {
    const big = 2 ** 25;
    expect(folded("f32", "sum", [big], [1], [-big], [1])).toEqual([1]);
    expect(folded("f32", "sum", [big], [-big], [1], [1])).toEqual([2]);
  });

  test("f16 and bf16 fold in f32 and round once", () => {
    // 2048 + 1 + 1 is 2050 in f16, but 2048 when each step rounds.
    expect(folded("f16", "sum", [2048], [1], [1])).toEqual([2050]);
    expect(folded("bf16", "sum", [256], [1], [1])).toEqual([258]);
    expect(folded("f16", "sum", [65504], [65504], [-65504])).toEqual([65504]);
  });

  test("infinities and NaN", () => {
    const inf = Number.POSITIVE_INFINITY;
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      expect(folded(dtype, "sum", [inf, inf, Number.NaN], [1, -inf, 1])).toEqual([inf, Number.NaN, Number.NaN]);
      expect(folded(dtype, "max", [Number.NaN, 1, -inf], [1, Number.NaN, 2])).toEqual([Number.NaN, Number.NaN, 2]);
      expect(folded(dtype, "min", [Number.NaN, 1, -inf], [1, Number.NaN, 2])).toEqual([Number.NaN, Number.NaN, -inf]);
    }
    expect(folded("f16", "sum", [65504, -65504], [65504, -65504])).toEqual([inf, -inf]);
  });

  test("integers wrap, and max and min know their signs", () => {
    expect(folded("i32", "sum", [2 ** 31 - 1], [1])).toEqual([-(2 ** 31)]);
    expect(folded("u32", "sum", [2 ** 32 - 1], [2])).toEqual([1]);
    expect(folded("u8", "sum", [200], [100])).toEqual([44]);
    expect(folded("i32", "max", [-5], [3])).toEqual([3]);
    expect(folded("u32", "max", [2 ** 32 - 1], [3])).toEqual([2 ** 32 - 1]);
    expect(folded("u8", "min", [200], [100])).toEqual([100]);
  });

  test("in place, into any source", () => {
    for (const into of [0, 1, 2]) {
      const sources = [1, 10, 100].map((value) => Tensor.empty(heap, "f32", [37]).fill(value));
      const target = sources[into];
      if (target === undefined) throw new Error("no target");
      fold(target, sources, "sum");
      expect(target.f32.every((value) => value === 111)).toBe(true);
      for (const source of sources) source.free();
    }
  });
});

test("one source: every 16-bit pattern survives widening and narrowing", () => {
  for (const dtype of ["f16", "bf16"] as const) {
    const all = Tensor.empty(heap, dtype, [65536]);
    all.elements.set(Uint16Array.from({ length: 65536 }, (_, bits) => bits));
    const target = Tensor.empty(heap, dtype, [65536]);
    fold(target, [all], "sum");
    const widen = dtype === "f16" ? float16ToNumber : bfloat16ToNumber;
    const narrow = dtype === "f16" ? numberToFloat16 : numberToBfloat16;
    const wrong = Array.from(target.elements).filter((bits, index) => {
      const value = widen(index);
      return Number.isNaN(value) ? !Number.isNaN(widen(bits)) : bits !== narrow(value);
    });
    expect(wrong).toEqual([]);
    all.free();
    target.free();
  }
});

test("narrowing rounds like the scalar conversion, for every magnitude", () => {
  const values = Array.from({ length: 60_000 }, (_, index) => {
    const scale = 2 ** ((index % 70) - 40);
    return Math.fround((1 + ((index * 2654435761) % 65536) / 65536) * scale * (index % 2 === 0 ? 1 : -1));
  });
  for (const dtype of ["f16", "bf16"] as const) {
    // x = a + b with a and b exact in the dtype and the sum exact in f32: the kernel rounds the sum once.
    const round = (value: number): number =>
      dtype === "f16" ? float16ToNumber(numberToFloat16(value)) : bfloat16ToNumber(numberToBfloat16(value));
    const a = values.map(round);
    const b = values.map((value, index) => round(value * 2 ** -((index % 12) + 1)));
    const result = folded(dtype, "sum", a, b);
    expect(result).toEqual(a.map((value, index) => foldReference(dtype, "sum", [value, b[index] ?? 0])));
  }
});

test("copy moves any strides, bit for bit", () => {
  for (const dtype of SUMMED_DTYPES) {
    for (const from of ["contiguous", "sliced", "transposed", "stepped"] as const) {
      for (const to of ["contiguous", "sliced", "transposed", "stepped"] as const) {
        const shape = [5, 3, 7];
        const source = place(heap, dtype, shape, from);
        const target = place(heap, dtype, shape, to);
        source.tensor.set(randomValues(dtype, 105, 3));
        target.tensor.fill(9);
        table.begin(dtype, shape, -1, 0);
        table.tensor(0, target.tensor, 0, 0);
        table.tensor(1, source.tensor, 0, 0);
        table.copy();
        expect([...target.tensor.toNumbers()]).toEqual([...source.tensor.toNumbers()]);
        source.release();
        target.release();
      }
    }
  }
});
