// Weights in bf16 and f16 give the bits that the same weights in f32 give.
import { describe, expect, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { RandomStream } from "../../../../tests/random.ts";
import { Layers } from "./layers.ts";

const heap = SharedHeap.create(16 << 20);
const layers = Layers.open(heap, { maxTokens: 16, maxInputs: 2100 });
const WILD = [0x7c00, 0xfc00, 0x7e01, 0x7f80, 0xff80, 0x7fc0, 0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff];

/** The same numbers, NaN for NaN: nothing says which NaN an operation gives. */
function expectSameBits(found: Float32Array, wanted: Float32Array): void {
  expect(found.length).toBe(wanted.length);
  expect(found.findIndex((value, index) => !Object.is(value, wanted[index]))).toBe(-1);
}

/** A matrix of any bit patterns: mostly small numbers, now and then one that is not finite, subnormal or zero. */
function patterns(dtype: "bf16" | "f16", shape: readonly number[], random: RandomStream, wild: number): Tensor {
  const weight = Tensor.empty(heap, dtype, shape);
  const one = dtype === "bf16" ? 0x3f00 : 0x3800;
  weight.elements.forEach((_, index) => {
    const isWild = random.next() < wild;
    const usual = (random.below(2) << 15) | (one - random.below(one / 4));
    weight.elements[index] = isWild ? (WILD[random.below(WILD.length)] ?? 0) : usual;
  });
  return weight;
}

const size = fc.constantFrom(1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 24, 33, 64, 113);
const cases = fc.record({
  tokens: fc.integer({ min: 1, max: 9 }),
  outs: size,
  ins: size,
  seed: fc.nat(),
  wild: fc.constantFrom(0, 0, 0.02, 1),
  spread: fc.constantFrom(1, 1e-30, 1e-42, 1e4, 1e5, 1e30),
  special: fc.constantFrom(undefined, Number.NaN, Number.POSITIVE_INFINITY),
});

describe.each(["bf16", "f16"] as const)("%s", (dtype) => {
  test("linear", () => {
    const free = heap.freeBytes;
    fc.assert(
      fc.property(cases, ({ tokens, outs, ins, seed, wild, spread, special }) => {
        const random = new RandomStream(seed);
        const x = Tensor.empty(heap, "f32", [tokens, ins]);
        x.f32.forEach((_, index) => {
          x.f32[index] = (random.next() * 2 - 1) * spread;
        });
        if (special !== undefined) x.f32[random.below(x.size)] = special;
        const values = patterns(dtype, [outs, ins], random, wild);
        const wide = Tensor.empty(heap, "f32", [outs, ins]);
        layers.widen(values, wide);
        const [found, wanted] = [0, 1].map(() => Tensor.empty(heap, "f32", [tokens, outs]).fill(-7)) as [
          Tensor,
          Tensor,
        ];
        const allFinite = dtype === "f16" && layers.isFinite(values);
        expect(allFinite).toBe(dtype === "f16" && values.toNumbers().every(Number.isFinite));
        layers.linear(x, { values, isFinite: allFinite }, found);
        layers.linear(x, { values: wide }, wanted);
        expectSameBits(found.f32, wanted.f32);
        for (const tensor of [x, values, wide, found, wanted]) tensor.free();
      }),
      { numRuns: 600, seed: 3 },
    );
    expect(heap.freeBytes).toBe(free);
  });

  test("embed", () => {
    const random = new RandomStream(9);
    for (const dim of [1, 3, 4, 7, 113]) {
      const values = patterns(dtype, [5, dim], random, 0.1);
      const ids = Tensor.from(heap, "i32", [4], [9, 10, 14, 15]);
      const out = Tensor.empty(heap, "f32", [4, dim]).fill(Number.NaN);
      layers.embed(ids, { values }, 10, out);
      const numbers = values.toNumbers();
      const zeros = new Float64Array(dim);
      const wanted = [...zeros, ...numbers.slice(0, dim), ...numbers.slice(4 * dim), ...zeros];
      expectSameBits(out.f32, Float32Array.from(wanted));
    }
  });
});

test("a NaN or an infinity is seen wherever it stands", () => {
  for (const size of [1, 7, 8, 9, 31]) {
    const values = Tensor.from(heap, "f16", [size], new Float64Array(size).fill(-65504));
    expect(layers.isFinite(values)).toBe(true);
    for (let index = 0; index < size; index++) {
      for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const damaged = values.clone(heap);
        damaged.slice(0, index, index + 1).fill(value);
        expect(layers.isFinite(damaged)).toBe(false);
        damaged.free();
      }
    }
  }
  expect(() => layers.isFinite(Tensor.zeros(heap, "bf16", [4]))).toThrow("must be f16");
});
