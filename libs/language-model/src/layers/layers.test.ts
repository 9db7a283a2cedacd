import { describe, expect, test } from "bun:test";
import { type DType, SharedHeap, Tensor, ArgumentError } from "@lockstep/tensor";
import { Layers } from "./layers.ts";

const heap = SharedHeap.create(32 << 20);
const layers = Layers.open(heap, { maxTokens: 16, maxInputs: 700 });

/** Repeatable numbers in (-1, 1). */
function numbers(count: number, seed: number): Float64Array {
  let state = seed * 2654435761 + 1;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return Math.fround(state / 2 ** 31 - 1);
  });
}

function random(shape: number[], seed: number, dtype: DType = "f32"): Tensor {
  const size = shape.reduce((product, n) => product * n, 1);
  return Tensor.from(heap, dtype, shape, numbers(size, seed));
}

function expectClose(found: Tensor, wanted: ArrayLike<number>, tolerance: number): void {
  expect(found.size).toBe(wanted.length);
  const values = found.toNumbers();
  let worst = 0;
  for (let index = 0; index < values.length; index++) {
    const exact = wanted[index] ?? Number.NaN;
    const error = Math.abs((values[index] ?? Number.NaN) - exact) / (1 + Math.abs(exact));
    worst = error > worst || Number.isNaN(error) ? error : worst;
  }
  expect(worst).toBeLessThanOrEqual(tolerance);
}

describe("linear", () => {
  const sizes = [
    [1, 1, 1],
    [1, 8, 4],
    [1, 19, 37],
    [2, 9, 6],
    [3, 4, 16],
    [4, 5, 3],
    [7, 33, 65],
    [8, 3, 128],
    [11, 704, 256],
  ] as const;
  test.each(sizes)("%d tokens, %d outputs, %d inputs", (tokens, outs, ins) => {
    const x = random([tokens, ins], 1);
    const weight = random([outs, ins], 2);
    const y = Tensor.empty(heap, "f32", [tokens, outs]).fill(Number.NaN);
    const guard = random([8], 3);
    const before = guard.f32.slice();
    layers.linear(x, { values: weight }, y);
    const exact = new Float64Array(tokens * outs);
    for (let t = 0; t < tokens; t++) {
      for (let o = 0; o < outs; o++) {
        let sum = 0;
        for (let i = 0; i < ins; i++) sum += x.at(t, i) * weight.at(o, i);
        exact[t * outs + o] = sum;
      }
    }
    expectClose(y, exact, 1e-5);
    expect(guard.f32).toEqual(before);
  });

  test("a token's result does not depend on how many are computed with it", () => {
    const x = random([10, 70], 4);
    const weight = random([21, 70], 5);
    const together = Tensor.empty(heap, "f32", [10, 21]);
    layers.linear(x, { values: weight }, together);
    const alone = Tensor.empty(heap, "f32", [1, 21]);
    for (let token = 0; token < 10; token++) {
      layers.linear(x.slice(0, token, token + 1), { values: weight }, alone);
      expect(alone.f32).toEqual(together.slice(0, token, token + 1).f32);
    }
  });

  test("refuses shapes that disagree before it writes", () => {
    const y = Tensor.zeros(heap, "f32", [2, 3]);
    expect(() => layers.linear(random([2, 5], 6), { values: random([3, 4], 7) }, y)).toThrow("`x` must be");
    expect(() => layers.linear(random([2, 4], 6), { values: random([2, 4], 7) }, y)).toThrow("`y` must be");
    const integers = Tensor.zeros(heap, "i32", [3, 4]);
    expect(() => layers.linear(random([2, 4], 6), { values: integers }, y)).toThrow("must be f32, f16 or bf16");
    expect(y.toNumbers().every((value) => value === 0)).toBe(true);
  });

  test("no inputs give zeros, no outputs nothing", () => {
    const y = Tensor.empty(heap, "f32", [2, 3]).fill(Number.NaN);
    layers.linear(Tensor.empty(heap, "f32", [2, 0]), { values: Tensor.empty(heap, "bf16", [3, 0]) }, y);
    expect([...y.f32]).toEqual([0, 0, 0, 0, 0, 0]);
    layers.linear(random([2, 5], 1), { values: Tensor.empty(heap, "f16", [0, 5]) }, y.slice(1, 0, 0));
  });
});

test.each([1, 3, 4, 63, 256])("rmsNorm of %d dimensions", (dim) => {
  const x = random([3, dim], 8);
  const weight = random([dim], 9);
  const y = Tensor.empty(heap, "f32", [3, dim]);
  layers.rmsNorm(x, weight, y, 1e-5);
  const exact = [];
  for (let t = 0; t < 3; t++) {
    let squares = 0;
    for (let i = 0; i < dim; i++) squares += x.at(t, i) ** 2;
    for (let i = 0; i < dim; i++) exact.push((x.at(t, i) / Math.sqrt(squares / dim + 1e-5)) * weight.at(i));
  }
  expectClose(y, exact, 1e-6);
  layers.rmsNorm(x, weight, x, 1e-5);
  expect(x.f32).toEqual(y.f32);
});

test.each([1, 3, 4, 32, 33])("rotate turns pairs %d apart", (half) => {
  const x = random([2, 3, 2 * half], 10);
  const angles = numbers(2 * half, 11);
  const cosines = Tensor.from(heap, "f32", [2, half], angles.map(Math.cos));
  const sines = Tensor.from(heap, "f32", [2, half], angles.map(Math.sin));
  const exact = x.toNumbers();
  for (let row = 0; row < 6; row++) {
    for (let i = 0; i < half; i++) {
      const angle = angles[Math.floor(row / 3) * half + i] ?? 0;
      const at = row * 2 * half + i;
      const [a = 0, b = 0] = [exact[at], exact[at + half]];
      exact[at] = a * Math.cos(angle) - b * Math.sin(angle);
      exact[at + half] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
  layers.rotate(x, cosines, sines);
  expectClose(x, exact, 1e-6);
});

test("swiGlu over the whole range of exp", () => {
  const values = [...numbers(40, 12)].map((value) => value * 10);
  const gates = [...values, 0, -0, 80, -80, 100, -100, 1e30, -1e30, 1e-30];
  const gate = Tensor.from(heap, "f32", [gates.length], gates);
  const up = random([gates.length], 13);
  const out = Tensor.empty(heap, "f32", [gates.length]);
  layers.swiGlu(gate, up, out);
  const exact = gates.map((_, index) => {
    const g = gate.at(index);
    return (g / (1 + Math.exp(-g))) * up.at(index);
  });
  expectClose(out, exact, 1e-6);
  const nan = Tensor.from(heap, "f32", [1], [Number.NaN]);
  layers.swiGlu(nan, nan, nan);
  expect(nan.at(0)).toBeNaN();
});

test("addInto adds every element", () => {
  const x = random([5, 7], 14);
  const y = random([5, 7], 15);
  const exact = x.toNumbers().map((value, index) => Math.fround(value + (y.toNumbers()[index] ?? 0)));
  layers.addInto(x, y);
  expect(x.toNumbers()).toEqual(exact);
});

test("addBias adds a row to every row", () => {
  const x = random([5, 7], 14);
  const bias = random([7], 15);
  const exact = x.toNumbers().map((value, index) => Math.fround(value + (bias.toNumbers()[index % 7] ?? 0)));
  layers.addBias(x, bias);
  expect(x.toNumbers()).toEqual(exact);
  expect(() => layers.addBias(x, random([6], 1))).toThrow(ArgumentError);
});

test("embed gives a rank's own rows, and zeros for the others'", () => {
  const table = random([5, 6], 16);
  const ids = Tensor.from(heap, "i32", [4], [9, 10, 14, 15]);
  const out = Tensor.empty(heap, "f32", [4, 6]).fill(Number.NaN);
  layers.embed(ids, { values: table }, 10, out);
  const zeros = new Float32Array(6);
  expect(out.slice(0, 0, 1).f32).toEqual(zeros);
  expect(out.slice(0, 1, 2).f32).toEqual(table.slice(0, 0, 1).f32);
  expect(out.slice(0, 2, 3).f32).toEqual(table.slice(0, 4, 5).f32);
  expect(out.slice(0, 3, 4).f32).toEqual(zeros);
});

test.each([
  [[1, 5, 5, 2], 1],
  [[-3], 0],
  [[-3.4028234663852886e38, -2, -1], 2],
  [[-3.4028234663852886e38], 0],
  [[1, 2, Number.NaN], -1],
  [[Number.NaN, 2, 1], -1],
  [[1, Number.POSITIVE_INFINITY, 2], -1],
  [[1, 2, Number.NEGATIVE_INFINITY], -1],
  [[], -1],
  [[-0, 0, -1, -2, -3], 0],
  [[1, 2, 3, 4, 5, 9, 7, 9], 5],
  [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 10],
  [[1, 2, 3, 4, 5, Number.NaN, 7, 8, 9], -1],
  [[1, 2, 3, Number.POSITIVE_INFINITY, 5], -1],
  [[1, 2, 3, 4, Number.NEGATIVE_INFINITY], -1],
])("argmax of %p is %d", (values, index) => {
  expect(layers.argmax(Tensor.from(heap, "f32", [1, values.length], values), 0)).toBe(index);
});

test("argmax is of a row of its own, whose number has to be one", () => {
  const values = Tensor.from(heap, "f32", [3, 5], [9, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 7, 2, 3, 8]);
  expect([0, 1, 2].map((row) => layers.argmax(values, row))).toEqual([0, 4, 4]);
  for (const row of [-1, 3, 0.5]) expect(() => layers.argmax(values, row)).toThrow("`row` must be");
});

describe("widen", () => {
  test.each(["f32", "f16", "bf16"] as const)("%s, of an odd number, exactly", (dtype) => {
    const stored = random([3, 7], 17, dtype);
    const wide = Tensor.empty(heap, "f32", [21]);
    layers.widen(stored, wide);
    expect(wide.toNumbers()).toEqual(stored.toNumbers());
    expect(() => layers.widen(stored.transpose(0, 1), wide)).toThrow(ArgumentError);
    expect(() => layers.widen(stored, wide.slice(0, 1, 21))).toThrow(ArgumentError);
  });

  test.each([0, 3])("every f16 bit pattern, %d beyond a multiple of four", (more) => {
    const all = Tensor.empty(heap, "f16", [65536 - more]);
    all.elements.set(Uint16Array.from({ length: all.size }, (_, bits) => bits + more));
    const wide = Tensor.empty(heap, "f32", [all.size]);
    layers.widen(all, wide);
    const [found, wanted] = [wide.toNumbers(), all.toNumbers()];
    expect(wanted.findIndex((value, bits) => !Object.is(value, found[bits]))).toBe(-1);
  });
});
