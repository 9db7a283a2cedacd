import { describe, expect, test } from "bun:test";
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

describe("products stay apart", () => {
  const [ins, outs] = [64, 8];
  const floats = (count: number, seed: number): Tensor => Tensor.from(heap, "f32", [1, count], numbers(count, seed));
  /** Two tensors of a row, one behind the other. */
  const pair = (first: number, second: number, seed: number): [Tensor, Tensor] => {
    const both = floats(first + second, seed).reshape([first + second]);
    return [both.slice(0, 0, first).reshape([1, first]), both.slice(0, first, first + second).reshape([1, second])];
  };
  /** Two matrices, one behind the other, that count as such. */
  const weightsOf = (dtype: DType, seed: number): [Weight, Weight] => {
    const [first, second] = matrices([outs, outs], ins, dtype, 0, seed);
    if (first === undefined || second === undefined) expect.unreachable();
    return [first, second];
  };

  /** Layers one after another, and the results of the products among them. */
  interface Products {
    readonly calls: readonly (() => void)[];
    readonly ys: readonly Tensor[];
  }

  /** Each calls two products, over operands of its own that are the same every time. */
  const sequences: Readonly<Record<string, () => Products>> = {
    "of different inputs": () => {
      const [x, other] = pair(ins, ins, 1);
      const [first, second] = weightsOf("f32", 2);
      const ys = pair(outs, outs, 3);
      return { ys, calls: [() => layers.linear(x, first, ys[0]), () => layers.linear(other, second, ys[1])] };
    },
    "of different numbers of inputs": () => {
      const x = floats(ins, 1);
      const [first, second] = weightsOf("f32", 2);
      const narrow = { values: second.values.reshape([2 * outs, ins / 2]) };
      const ys = pair(outs, 2 * outs, 3);
      const half = x.slice(1, 0, ins / 2);
      return { ys, calls: [() => layers.linear(x, first, ys[0]), () => layers.linear(half, narrow, ys[1])] };
    },
    "of weights in different dtypes": () => {
      const x = floats(ins, 1);
      const [first, second] = weightsOf("f16", 2);
      const ys = pair(outs, outs, 3);
      const finite = { ...second, isFinite: true };
      return { ys, calls: [() => layers.linear(x, first, ys[0]), () => layers.linear(x, finite, ys[1])] };
    },
    "whose second weights come first": () => {
      const x = floats(ins, 1);
      const [first, second] = weightsOf("bf16", 2);
      const ys = pair(outs, outs, 3);
      return { ys, calls: [() => layers.linear(x, second, ys[0]), () => layers.linear(x, first, ys[1])] };
    },
    "whose second results come first": () => {
      const x = floats(ins, 1);
      const [first, second] = weightsOf("bf16", 2);
      const ys = pair(outs, outs, 3);
      return { ys, calls: [() => layers.linear(x, first, ys[1]), () => layers.linear(x, second, ys[0])] };
    },
    "of two tokens, whose second results lie over some of the first": () => {
      const x = Tensor.from(heap, "f32", [2, ins], numbers(2 * ins, 1));
      const [first, second] = weightsOf("f32", 2);
      const all = floats(4 * outs, 3).reshape([4 * outs]);
      const [one, two] = [
        all.slice(0, 0, 2 * outs).reshape([2, outs]),
        all.slice(0, outs, 3 * outs).reshape([2, outs]),
      ];
      return { ys: [all], calls: [() => layers.linear(x, first, one), () => layers.linear(x, second, two)] };
    },
    "of one token, then of it and another": () => {
      const x = Tensor.from(heap, "f32", [2, ins], numbers(2 * ins, 1));
      const [first, second] = weightsOf("f32", 2);
      const all = floats(3 * outs, 3).reshape([3 * outs]);
      const [one, two] = [all.slice(0, 0, outs).reshape([1, outs]), all.slice(0, outs, 3 * outs).reshape([2, outs])];
      const own = x.slice(0, 0, 1);
      return { ys: [all], calls: [() => layers.linear(own, first, one), () => layers.linear(x, second, two)] };
    },
    "with something else between": () => {
      const x = floats(ins, 1);
      const [first, second] = weightsOf("bf16", 2);
      const ys = pair(outs, outs, 3);
      return {
        ys,
        calls: [
          () => layers.linear(x, first, ys[0]),
          () => layers.addInto(x, x),
          () => layers.linear(x, second, ys[1]),
        ],
      };
    },
  };

  test.each(Object.entries(sequences))("%s", (_, open) => {
    const [direct, own] = [open(), open()];
    for (const call of direct.calls) call();
    using program = layers.record(() => {
      for (const call of own.calls) call();
    });
    program.run();
    for (const [index, y] of own.ys.entries()) expect(y.bytes).toEqual(direct.ys[index]?.bytes ?? new Uint8Array());
    expect(program.operations.filter((name) => name.startsWith("linear")).length).toBe(2);
  });

  test("when the second's input is what the first gives", () => {
    const open = () => {
      const [x, y] = pair(ins, ins, 1);
      const [first, second] = matrices([ins, ins], ins, "f32", 0, 2);
      return { x, y, first: first ?? expect.unreachable(), second: second ?? expect.unreachable() };
    };
    const run = ({ x, y, first, second }: ReturnType<typeof open>): void => {
      layers.linear(y, first, x);
      layers.linear(x, second, y);
    };
    const [direct, own] = [open(), open()];
    run(direct);
    using program = layers.record(() => run(own));
    program.run();
    for (const name of ["x", "y"] as const) expect(own[name].bytes).toEqual(direct[name].bytes);
    expect(program.operations.length).toBe(2);
  });
});

test("an input that results lie over is multiplied twice: the second product reads what the first gave", () => {
  // Of one token: results from the input's own place on, so that together they would go over it.
  const [ins, outs] = [64, 64];
  const open = () => {
    const both = Tensor.from(heap, "f32", [2 * outs], numbers(2 * outs, 5));
    const [first, second] = matrices([outs, outs], ins, "f32", 0, 6);
    return {
      both,
      x: both.slice(0, 0, ins).reshape([1, ins]),
      ys: [0, outs].map((at) => both.slice(0, at, at + outs).reshape([1, outs])),
      weights: [first ?? expect.unreachable(), second ?? expect.unreachable()],
    };
  };
  const run = ({ x, ys, weights }: ReturnType<typeof open>): void => {
    for (const [index, weight] of weights.entries()) layers.linear(x, weight, ys[index] ?? x);
  };
  const [direct, own] = [open(), open()];
  run(direct);
  using program = layers.record(() => run(own));
  program.run();
  expect(own.both.bytes).toEqual(direct.both.bytes);
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
