import { expect, test } from "bun:test";
import { type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { Layers } from "./layers.ts";
import { groupsOf, type Weight } from "./weight.ts";

const heap = SharedHeap.create(64 << 20);
const layers = Layers.open(heap, { maxTokens: 4, maxInputs: 128 });

/** Repeatable numbers in (-1, 1). */
function numbers(count: number, seed: number): Float64Array {
  let state = seed * 2654435761 + 1;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return Math.fround(state / 2 ** 31 - 1);
  });
}

/** Matrices of so many rows, one behind another in memory or with gaps between. */
function matrices(rows: readonly number[], ins: number, dtype: DType, gap: number, seed: number): Weight[] {
  const all = rows.reduce((sum, count) => sum + count + gap, 0);
  const together = Tensor.from(heap, dtype, [all, ins], numbers(all * ins, seed));
  let at = 0;
  return rows.map((count) => {
    const values = together.slice(0, at, at + count);
    at += count + gap;
    return { values };
  });
}

/** Results of one token, one behind another or with gaps between. */
function results(rows: readonly number[], tokens: number, gap: number): Tensor[] {
  const all = Tensor.empty(heap, "f32", [rows.reduce((sum, count) => sum + tokens * (count + gap), 0)]).fill(
    Number.NaN,
  );
  let at = 0;
  return rows.map((count) => {
    const y = all.slice(0, at, at + tokens * count).reshape([tokens, count]);
    at += tokens * (count + gap);
    return y;
  });
}

test("products of one input become one where weights and results lie one behind another, with the same bits", () => {
  let merges = 0;
  fc.assert(
    fc.property(
      fc.record({
        rows: fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 }),
        ins: fc.constantFrom(4, 7, 64, 113, 128),
        dtype: fc.constantFrom<DType>("f32", "bf16", "f16"),
        tokens: fc.constantFrom(1, 1, 2, 3),
        weightGap: fc.constantFrom(0, 0, 0, 1),
        resultGap: fc.constantFrom(0, 0, 0, 1),
        seed: fc.nat(1000),
      }),
      ({ rows, ins, dtype, tokens, weightGap, resultGap, seed }) => {
        const used = heap.usedBytes;
        const x = Tensor.from(heap, "f32", [tokens, ins], numbers(tokens * ins, seed));
        const weights = matrices(rows, ins, dtype, weightGap, seed + 1);
        const direct = results(rows, tokens, resultGap);
        const own = results(rows, tokens, resultGap);
        const run = (outs: readonly Tensor[]): void => {
          for (const [index, weight] of weights.entries()) layers.linear(x, weight, outs[index] ?? x);
        };
        run(direct);
        const program = layers.record(() => run(own));
        program.run();
        for (const [index, y] of own.entries()) expect(y.bytes).toEqual(direct[index]?.bytes ?? new Uint8Array());
        const isOne = tokens === 1 && (rows.length === 1 || (weightGap === 0 && resultGap === 0));
        expect(program.operations.length).toBe(isOne ? 1 : rows.length);
        if (isOne && rows.length > 1) merges++;
        program.free();
        x.free();
        weights[0]?.values.heap.release(weights[0].values.byteOffset);
        for (const ys of [direct, own]) ys[0]?.heap.release(ys[0].byteOffset);
        expect(heap.usedBytes).toBe(used);
      },
    ),
    { numRuns: 200 },
  );
  expect(merges).toBeGreaterThan(10);
});

test("an input is quantised once for products in a row, and again where it has changed or scratch is another's", () => {
  const ins = 64;
  const quantised = (seed: number): Weight => {
    const weight = {
      values: Tensor.empty(heap, "i8", [ins, ins]),
      scales: Tensor.empty(heap, "f32", [ins, groupsOf(ins)]),
    };
    layers.quantise(Tensor.from(heap, "f32", [ins, ins], numbers(ins * ins, seed)), weight);
    return weight;
  };
  const [first, second] = [quantised(1), quantised(2)];
  const sequence = (x: Tensor, y: Tensor, z: Tensor) => {
    layers.linear(x, first, y);
    layers.linear(x, second, z);
    // Of another input, into the first one's place, then of that.
    layers.linear(y, first, x);
    layers.linear(x, second, z);
    layers.addInto(x, y);
    layers.linear(x, first, y);
  };
  const operands = (): [Tensor, Tensor, Tensor] => [
    Tensor.from(heap, "f32", [2, ins], numbers(2 * ins, 3)),
    Tensor.zeros(heap, "f32", [2, ins]),
    Tensor.zeros(heap, "f32", [2, ins]),
  ];
  const [direct, own] = [operands(), operands()];
  sequence(...direct);
  using program = layers.record(() => sequence(...own));
  program.run();
  for (const [index, tensor] of own.entries()) expect(tensor.bytes).toEqual(direct[index]?.bytes ?? new Uint8Array());
  expect(program.operations.filter((name) => name === "quantiseInputs").length).toBe(4);
  // In place: the input is gone when the second product comes.
  const places = [operands(), operands()] as const;
  const inPlace = (x: Tensor): void => {
    layers.linear(x, first, x);
    layers.linear(x, second, x);
  };
  inPlace(places[0][0]);
  using overwritten = layers.record(() => inPlace(places[1][0]));
  overwritten.run();
  expect(places[1][0].bytes).toEqual(places[0][0].bytes);
  expect(overwritten.operations.length).toBe(4);
});
