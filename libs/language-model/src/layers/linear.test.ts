// What linear layers promise whatever the kernel that computes them: sums in one order, and scratch memory of one size.
import { describe, expect, test } from "bun:test";
import { type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../../tests/random.ts";
import { Layers } from "./layers.ts";
import { type InputRoom, linearScratchBytes } from "./linear-scratch.ts";
import { groupsOf, type Weight } from "./weight.ts";

const KINDS = ["f32", "bf16", "f16", "finite f16", "i8"] as const;
type Kind = (typeof KINDS)[number];

function random(heap: SharedHeap, dtype: DType, shape: readonly number[], seed: number): Tensor {
  const stream = new RandomStream(seed);
  const tensor = Tensor.empty(heap, "f32", shape);
  for (const index of tensor.f32.keys()) tensor.f32[index] = stream.next() * 2 - 1;
  return dtype === "f32" ? tensor : Tensor.from(heap, dtype, shape, tensor.toNumbers());
}

function weightOf(heap: SharedHeap, layers: Layers, kind: Kind, outs: number, ins: number): Weight {
  const dtype = kind === "finite f16" ? "f16" : kind === "i8" ? "f32" : kind;
  const values = random(heap, dtype, [outs, ins], 7);
  if (kind === "finite f16") return { values, isFinite: true };
  if (kind !== "i8") return { values };
  const scales = Tensor.empty(heap, "f32", [outs, groupsOf(ins)]);
  const weight = { values: Tensor.empty(heap, "i8", [outs, ins]), scales };
  layers.quantise(values, weight);
  return weight;
}

/** The order of linear-sums.as.ts, in f32. */
function inOrder(x: Tensor, weight: Tensor, token: number, out: number): number {
  const ins = x.dim(1);
  const add = (a: number, b: number): number => Math.fround(a + b);
  const product = (i: number): number => Math.fround(x.at(token, i) * weight.at(out, i));
  const body = ins - (ins % 8);
  const sums = new Float32Array(8);
  for (let i = 0; i < body; i++) sums[i % 8] = add(sums[i % 8] ?? 0, product(i));
  const [p0, p1, p2, p3] = [0, 2, 4, 6].map((r) => add(sums[r] ?? 0, sums[r + 1] ?? 0)) as [
    number,
    number,
    number,
    number,
  ];
  let total = add(add(p0, p2), add(p1, p3));
  for (let i = body; i < ins; i++) total = add(total, product(i));
  return total;
}

/** Inputs: none but a tail, a body alone, both, and more than a block of columns. */
const WIDTHS = [5, 8, 64, 75, 512, 1037];

describe.each(KINDS)("%s", (kind) => {
  test.each(WIDTHS)("a token's bits do not depend on how many are computed with it: %d inputs", (ins) => {
    const heap = SharedHeap.create(8 << 20);
    const layers = Layers.open(heap, { maxTokens: 200, maxInputs: ins });
    const [tokens, outs] = [101, 13];
    const weight = weightOf(heap, layers, kind, outs, ins);
    const x = random(heap, "f32", [tokens, ins], 3);
    const together = Tensor.empty(heap, "f32", [tokens, outs]);
    layers.linear(x, weight, together);
    for (const count of [1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 97]) {
      const some = Tensor.empty(heap, "f32", [count, outs]);
      for (const first of [0, tokens - count]) {
        some.fill(Number.NaN);
        layers.linear(x.slice(0, first, first + count), weight, some);
        expect(some.f32).toEqual(together.slice(0, first, first + count).f32);
      }
    }
  });

  test.each([1, 2, 3, 4, 5, 7, 8, 113])("a row's bits do not depend on the rows beside it: %d", (outs) => {
    const heap = SharedHeap.create(8 << 20);
    const layers = Layers.open(heap, { maxTokens: 16, maxInputs: 75 });
    const weight = weightOf(heap, layers, kind, outs, 75);
    const x = random(heap, "f32", [9, 75], 3);
    const y = Tensor.empty(heap, "f32", [9, outs]);
    layers.linear(x, weight, y);
    const one = Tensor.empty(heap, "f32", [9, 1]);
    for (let row = 0; row < outs; row++) {
      const { values, scales } = weight;
      const own = { ...weight, values: values.slice(0, row, row + 1) };
      layers.linear(x, scales === undefined ? own : { ...own, scales: scales.slice(0, row, row + 1) }, one);
      expect([...one.f32]).toEqual(Array.from({ length: 9 }, (_, token) => y.at(token, row)));
    }
  });

  test("scratch memory is as large as said, for every number of tokens", () => {
    for (const room of [
      { maxTokens: 1, maxInputs: 3 },
      { maxTokens: 3, maxInputs: 37 },
      { maxTokens: 7, maxInputs: 600 },
      { maxTokens: 97, maxInputs: 521 },
    ] satisfies InputRoom[]) {
      const heap = SharedHeap.create(16 << 20);
      const layers = Layers.open(heap, room);
      const used = heap.usedBytes;
      expect(used).toBe(128 * Math.ceil(linearScratchBytes(room) / 128));
      const guard = Tensor.empty(heap, "u8", [1 << 16]).fill(77);
      expect(guard.byteOffset - used).toBeLessThan(4096);
      const weight = weightOf(heap, layers, kind, 11, room.maxInputs);
      const x = random(heap, "f32", [room.maxTokens, room.maxInputs], 3);
      const y = Tensor.empty(heap, "f32", [room.maxTokens + 1, 11]).fill(-7);
      const before = heap.usedBytes;
      for (const tokens of new Set([1, Math.min(6, room.maxTokens), room.maxTokens])) {
        layers.linear(x.slice(0, 0, tokens), weight, y.slice(0, 0, tokens));
      }
      expect(heap.usedBytes).toBe(before);
      expect(guard.bytes.every((byte) => byte === 77)).toBe(true);
      expect(y.slice(0, room.maxTokens, room.maxTokens + 1).f32.every((value) => value === -7)).toBe(true);
    }
  });

  test("refused: more inputs than there is room for, and no room", () => {
    const heap = SharedHeap.create(1 << 20);
    const layers = Layers.open(heap, { maxTokens: 2, maxInputs: 40 });
    const weight = weightOf(heap, layers, kind, 3, 41);
    const [x, y] = [random(heap, "f32", [2, 41], 1), Tensor.zeros(heap, "f32", [2, 3])];
    expect(() => layers.linear(x, weight, y)).toThrow("the room there is");
    expect(() => Layers.open(heap).linear(x, weight, y)).toThrow("no room");
    expect(y.f32.every((value) => value === 0)).toBe(true);
  });
});

test.each(["f32", "bf16", "f16"] as const)("%s: the order is the one that is written down", (dtype) => {
  const heap = SharedHeap.create(4 << 20);
  const layers = Layers.open(heap, { maxTokens: 9, maxInputs: 1037 });
  for (const ins of WIDTHS) {
    const values = random(heap, dtype, [9, ins], 5);
    const x = random(heap, "f32", [7, ins], 6);
    const wanted = Float32Array.from({ length: 63 }, (_, at) => inOrder(x, values, Math.floor(at / 9), at % 9));
    for (const tokens of [1, 7]) {
      const y = Tensor.empty(heap, "f32", [tokens, 9]);
      layers.linear(x.slice(0, 0, tokens), dtype === "f16" ? { values, isFinite: true } : { values }, y);
      expect(y.f32).toEqual(wanted.subarray(0, 9 * tokens));
    }
  }
});
