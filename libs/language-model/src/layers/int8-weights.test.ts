// Weights in int8: what quantising costs, what the products are, and what is refused.
import { describe, expect, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { RandomStream } from "../../../../tests/random.ts";
import { Layers } from "./layers.ts";
import { linearScratchBytes } from "./linear-scratch.ts";
import { groupsOf, type Weight } from "./weight.ts";

const heap = SharedHeap.create(16 << 20);
const ROOM = { maxTokens: 16, maxInputs: 300 };
const layers = Layers.open(heap, ROOM);

function int8(outs: number, ins: number): Weight & { readonly scales: Tensor } {
  const scales = Tensor.empty(heap, "f32", [outs, groupsOf(ins)]);
  return { values: Tensor.empty(heap, "i8", [outs, ins]), scales };
}

function quantised(from: Tensor): Weight & { readonly scales: Tensor } {
  const weight = int8(from.dim(0), from.dim(1));
  expect(layers.quantise(from, weight)).toBe(-1);
  return weight;
}

function random(shape: readonly number[], seed: number, spread = 1): Tensor {
  const stream = new RandomStream(seed);
  const tensor = Tensor.empty(heap, "f32", shape);
  tensor.f32.forEach((_, index) => {
    tensor.f32[index] = (stream.next() * 2 - 1) * spread;
  });
  return tensor;
}

/** What is said of quantising, in numbers: integer nearest to w / scale in f32, ties to even. */
function roundToEven(value: number): number {
  const low = Math.floor(value);
  const rest = value - low;
  // No -0: integers have none.
  if (rest !== 0.5) return Math.round(value) + 0;
  return (low % 2 === 0 ? low : low + 1) + 0;
}

describe("quantise", () => {
  test.each(["f32", "bf16", "f16"] as const)("%s, by the rule", (dtype) => {
    for (const cols of [1, 3, 31, 32, 33, 64, 113, 256]) {
      const stored = Tensor.from(heap, dtype, [5, cols], random([5, cols], cols).f32);
      const { values, scales } = quantised(stored);
      for (let row = 0; row < 5; row++) {
        for (let group = 0; group < groupsOf(cols); group++) {
          const columns = Array.from({ length: Math.min(32, cols - 32 * group) }, (_, index) => 32 * group + index);
          const most = Math.max(...columns.map((column) => Math.abs(stored.at(row, column))));
          const scale = Math.fround(most / 127);
          expect(scales.at(row, group)).toBe(scale);
          for (const column of columns) {
            expect(values.at(row, column)).toBe(roundToEven(Math.fround(stored.at(row, column) / scale)));
          }
        }
      }
    }
  });

  test("zeros, subnormal numbers, the largest numbers", () => {
    const rows = [0, 1e-45, 1e-42, 3.4028234663852886e38].map((value) => Array.from({ length: 40 }, () => value));
    const stored = Tensor.from(heap, "f32", [4, 40], rows.flat());
    const { values, scales } = quantised(stored);
    expect([...scales.slice(0, 0, 2).toNumbers()]).toEqual([0, 0, 0, 0]);
    expect(
      values
        .slice(0, 0, 2)
        .toNumbers()
        .every((value) => value === 0),
    ).toBe(true);
    for (const row of [2, 3]) {
      for (const column of [0, 31, 32, 39]) {
        const found = values.at(row, column) * scales.at(row, column >> 5);
        expect(Math.abs(found / stored.at(row, column) - 1)).toBeLessThan(row === 2 ? 0.1 : 1e-6);
      }
    }
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("%d is told by its row", (value) => {
    for (const dtype of ["f32", "bf16", "f16"] as const) {
      for (const column of [0, 17, 31, 32, 36]) {
        const stored = Tensor.from(heap, dtype, [4, 37], random([4, 37], 1).f32);
        stored
          .slice(0, 2, 3)
          .slice(1, column, column + 1)
          .fill(value);
        expect(layers.quantise(stored, int8(4, 37))).toBe(2);
      }
    }
  });

  test("refuses tensors that do not fit", () => {
    const from = random([4, 37], 1);
    expect(() => layers.quantise(from, int8(4, 36))).toThrow(ArgumentError);
    expect(() => layers.quantise(from.transpose(0, 1), int8(37, 4))).toThrow(ArgumentError);
    expect(() => layers.quantise(from, { values: Tensor.empty(heap, "i8", [4, 37]) })).toThrow(ArgumentError);
    expect(() => layers.quantise(from, { values: from })).toThrow(ArgumentError);
    expect(() => layers.quantise(Tensor.zeros(heap, "i32", [4, 37]), int8(4, 37))).toThrow(ArgumentError);
  });
});

/** y in float64 from the weights as they are kept. */
function exactly(x: Tensor, { values, scales }: Weight): { y: Float64Array; size: Float64Array } {
  const [tokens, outs, ins] = [x.dim(0), values.dim(0), values.dim(1)];
  const y = new Float64Array(tokens * outs);
  // Sums of a group's largest input and the magnitudes of its weights: what an error of the inputs is measured by.
  const size = new Float64Array(tokens * outs);
  const largest = (token: number, group: number): number => {
    let most = 0;
    for (let i = 32 * group; i < Math.min(ins, 32 * group + 32); i++) most = Math.max(most, Math.abs(x.at(token, i)));
    return most;
  };
  for (let t = 0; t < tokens; t++) {
    const most = Array.from({ length: groupsOf(ins) }, (_, group) => largest(t, group));
    for (let o = 0; o < outs; o++) {
      for (let i = 0; i < ins; i++) {
        const weight = values.at(o, i) * (scales?.at(o, i >> 5) ?? Number.NaN);
        y[t * outs + o] = (y[t * outs + o] ?? 0) + x.at(t, i) * weight;
        size[t * outs + o] = (size[t * outs + o] ?? 0) + (most[i >> 5] ?? 0) * Math.abs(weight);
      }
    }
  }
  return { y, size };
}

describe("linear", () => {
  const dimension = fc.constantFrom(1, 3, 5, 7, 31, 32, 33, 64, 96, 113);
  const cases = fc.record({
    tokens: fc.integer({ min: 1, max: 7 }),
    outs: fc.constantFrom(1, 2, 3, 4, 5, 7, 8, 13),
    ins: dimension,
    seed: fc.nat(),
    spread: fc.constantFrom(1, 1e-20, 1e20),
  });

  test("is what the weights as kept give, within the rounding of inputs to 15 bits", () => {
    const free = heap.freeBytes;
    fc.assert(
      fc.property(cases, ({ tokens, outs, ins, seed, spread }) => {
        const x = random([tokens, ins], seed, spread);
        const stored = random([outs, ins], seed + 1);
        const weight = quantised(stored);
        const y = Tensor.empty(heap, "f32", [tokens, outs]).fill(Number.NaN);
        layers.linear(x, weight, y);
        const exact = exactly(x, weight);
        let worst = 0;
        for (const [index, value] of y.f32.entries()) {
          const error = Math.abs(value - (exact.y[index] ?? Number.NaN)) / (exact.size[index] ?? 0);
          worst = error > worst || Number.isNaN(error) ? error : worst;
        }
        // Half a step of 32767, and a few roundings to f32.
        expect(worst).toBeLessThan(0.51 / 32767 + 2e-6);
        for (const tensor of [x, stored, weight.values, weight.scales, y]) tensor.free();
      }),
      { numRuns: 200, seed: 7 },
    );
    expect(heap.freeBytes).toBe(free);
  });

  test.each([
    [21, 70],
    [5, 32],
    [8, 300],
  ])("a token's result does not depend on how many are computed with it: %d outputs, %d inputs", (outs, ins) => {
    const x = random([11, ins], 4);
    const weight = quantised(random([outs, ins], 5));
    const together = Tensor.empty(heap, "f32", [11, outs]);
    layers.linear(x, weight, together);
    for (const count of [1, 2, 3, 4, 5]) {
      const some = Tensor.empty(heap, "f32", [count, outs]);
      for (let token = 0; token + count <= 11; token++) {
        layers.linear(x.slice(0, token, token + count), weight, some);
        expect(some.f32).toEqual(together.slice(0, token, token + count).f32);
      }
    }
  });

  test("the largest sums of a group do not overflow", () => {
    const x = Tensor.empty(heap, "f32", [4, 64]).fill(1);
    for (const sign of [1, -1]) {
      const weight = quantised(Tensor.empty(heap, "f32", [9, 64]).fill(sign));
      const y = Tensor.empty(heap, "f32", [4, 9]);
      layers.linear(x, weight, y);
      for (const value of y.f32) expect(Math.abs(value - 64 * sign)).toBeLessThan(1e-4);
    }
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    "%d anywhere in a token makes all of its outputs NaN, and no other token's",
    (value) => {
      const ins = 70;
      const weight = quantised(random([13, ins], 2));
      // Weights of nothing but zeros as well.
      weight.values.slice(0, 3, 4).fill(0);
      weight.scales.slice(0, 3, 4).fill(0);
      for (const tokens of [1, 2, 3, 5]) {
        for (const column of [0, 31, 32, 63, 64, 69]) {
          const damaged = tokens - 1;
          const x = random([tokens, ins], 3);
          x.f32[damaged * ins + column] = value;
          const y = Tensor.empty(heap, "f32", [tokens, 13]).fill(5);
          layers.linear(x, weight, y);
          for (const [index, found] of y.f32.entries()) {
            expect(Number.isNaN(found)).toBe(Math.floor(index / 13) === damaged);
          }
        }
      }
    },
  );

  test("nothing is allocated by a product, nothing written beyond the room and the outputs", () => {
    const x = random([ROOM.maxTokens, ROOM.maxInputs], 1);
    const weight = quantised(random([5, ROOM.maxInputs], 2));
    const y = Tensor.empty(heap, "f32", [ROOM.maxTokens + 1, 5]).fill(-7);
    const small = SharedHeap.create(1 << 20);
    const own = Layers.open(small, { maxTokens: 1, maxInputs: 3 });
    expect(small.usedBytes).toBe(128 * Math.ceil(linearScratchBytes({ maxTokens: 1, maxInputs: 3 }) / 128));
    const tiny = { values: Tensor.zeros(small, "i8", [2, 3]), scales: Tensor.zeros(small, "f32", [2, 1]) };
    const guard = Tensor.zeros(small, "f32", [64]);
    own.linear(Tensor.from(small, "f32", [1, 3], [1, 2, 3]), tiny, Tensor.empty(small, "f32", [1, 2]));
    expect(guard.f32.every((value) => value === 0)).toBe(true);
    const used = heap.usedBytes;
    layers.linear(x, weight, y.slice(0, 0, ROOM.maxTokens));
    expect(heap.usedBytes).toBe(used);
    expect([...y.slice(0, ROOM.maxTokens, ROOM.maxTokens + 1).f32]).toEqual([-7, -7, -7, -7, -7]);
  });

  test("refused: more inputs than there is room for, no room, no scales", () => {
    const weight = quantised(random([3, 40], 2));
    const y = Tensor.zeros(heap, "f32", [99, 3]);
    const wide = quantised(random([3, ROOM.maxInputs + 1], 2));
    expect(() => layers.linear(random([99, ROOM.maxInputs + 1], 1), wide, y)).toThrow("the room there is");
    const x = random([1, 40], 1);
    const one = y.slice(0, 0, 1);
    expect(() => Layers.open(heap).linear(x, weight, one)).toThrow("no room");
    expect(() => layers.linear(x, { values: weight.values }, one)).toThrow("`scales` must be those of i8");
    const few = { values: weight.values, scales: weight.scales.slice(1, 0, 1) };
    expect(() => layers.linear(x, few, one)).toThrow("`scales` must be");
    expect(y.f32.every((value) => value === 0)).toBe(true);
  });
});

test("embed gives weights times their scales, and zeros for rows of others", () => {
  for (const dim of [1, 31, 32, 33, 100]) {
    const table = quantised(random([5, dim], dim));
    const ids = Tensor.from(heap, "i32", [4], [9, 10, 14, 15]);
    const out = Tensor.empty(heap, "f32", [4, dim]).fill(Number.NaN);
    layers.embed(ids, table, 10, out);
    for (let i = 0; i < dim; i++) {
      const wanted = (row: number): number => Math.fround(table.values.at(row, i) * table.scales.at(row, i >> 5));
      expect([0, 1, 2, 3].map((token) => out.at(token, i))).toEqual([0, wanted(0), wanted(4), 0]);
    }
  }
});
