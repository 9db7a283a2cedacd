// Every layer computes a token's row as it computes it alone, whatever the number of tokens.
import { expect, test } from "bun:test";
import { Arena, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { RandomStream } from "../../../../tests/random.ts";
import { Layers } from "./layers.ts";
import { groupsOf, type Weight } from "./weight.ts";

const heap = SharedHeap.create(64 << 20);
const layers = Layers.open(heap, { maxTokens: 70, maxInputs: 1024 });

const WEIGHTS: readonly DType[] = ["f32", "bf16", "f16", "i8"];
const sizes = fc.oneof(fc.integer({ min: 1, max: 140 }), fc.constantFrom(256, 704, 1024));

function random(arena: Arena, dtype: DType, shape: readonly number[], stream: RandomStream): Tensor {
  return Tensor.from(arena, dtype, shape, stream.normals(shape.reduce((product, size) => product * size, 1)));
}

/** Weights of a dtype; f16 ones with and without the word that all are finite. */
function weight(arena: Arena, dtype: DType, outs: number, ins: number, stream: RandomStream): Weight {
  const rows = random(arena, dtype === "i8" ? "f32" : dtype, [outs, ins], stream);
  if (dtype !== "i8")
    return dtype === "f16" && stream.below(2) === 0 ? { values: rows, isFinite: true } : { values: rows };
  const made = {
    values: Tensor.empty(arena, "i8", [outs, ins]),
    scales: Tensor.empty(arena, "f32", [outs, groupsOf(ins)]),
  };
  layers.quantise(rows, made);
  return made;
}

/** Rows of `run` over all tokens, and over runs of tokens that are cut anywhere, are the same words. */
function expectSameRows(
  arena: Arena,
  x: Tensor,
  width: number,
  run: (x: Tensor, y: Tensor) => void,
  cut: number,
): void {
  const [tokens = 0] = x.shape;
  const [whole, parts] = [0, 1].map(() => Tensor.empty(arena, "f32", [tokens, width]).fill(Number.NaN));
  if (whole === undefined || parts === undefined) return;
  run(x, whole);
  run(x.slice(0, 0, cut), parts.slice(0, 0, cut));
  for (let token = cut; token < tokens; token++) run(x.slice(0, token, token + 1), parts.slice(0, token, token + 1));
  const words = (tensor: Tensor): Int32Array => new Int32Array(heap.buffer, tensor.byteOffset, tensor.size);
  expect(words(parts)).toEqual(words(whole));
}

test.each(WEIGHTS)("products with weights in %s", (dtype) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 70 }), sizes, sizes, fc.nat(), (tokens, outs, ins, seed) => {
      const arena = new Arena(heap, 16 << 20);
      try {
        const stream = new RandomStream(seed);
        const matrix = weight(arena, dtype, outs, ins, stream);
        const x = random(arena, "f32", [tokens, ins], stream);
        expectSameRows(arena, x, outs, (from, to) => layers.linear(from, matrix, to), 1 + stream.below(tokens));
      } finally {
        arena.close();
      }
    }),
    { numRuns: 25 },
  );
});

test.each(WEIGHTS)("an output with weights in %s is the same whatever other outputs are computed with it", (dtype) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 70 }), sizes, sizes, fc.nat(), (tokens, outs, ins, seed) => {
      const arena = new Arena(heap, 16 << 20);
      try {
        const stream = new RandomStream(seed);
        const matrix = weight(arena, dtype, outs, ins, stream);
        const x = random(arena, "f32", [tokens, ins], stream);
        const whole = Tensor.empty(arena, "f32", [tokens, outs]);
        layers.linear(x, matrix, whole);
        // As ranks would have it that share the rows.
        const cuts = [0, stream.below(outs + 1), stream.below(outs + 1), outs].sort((a, b) => a - b);
        for (const [index, from] of cuts.slice(0, -1).entries()) {
          const to = cuts[index + 1] ?? outs;
          const part = Tensor.empty(arena, "f32", [tokens, to - from]);
          const scales = matrix.scales === undefined ? {} : { scales: matrix.scales.slice(0, from, to) };
          layers.linear(x, { ...matrix, values: matrix.values.slice(0, from, to), ...scales }, part);
          const words = (tensor: Tensor): Int32Array => new Int32Array(Float32Array.from(tensor.toNumbers()).buffer);
          expect(words(part)).toEqual(words(whole.slice(1, from, to)));
        }
      } finally {
        arena.close();
      }
    }),
    { numRuns: 20 },
  );
});

test("norms, rotations, activations and sums", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 40 }), fc.nat(), (tokens, half, seed) => {
      const arena = new Arena(heap, 8 << 20);
      try {
        const stream = new RandomStream(seed);
        const width = 3 * 2 * half;
        const x = random(arena, "f32", [tokens, width], stream);
        const same = random(arena, "f32", [width], stream);
        const [cosines, sines] = [random(arena, "f32", [1, half], stream), random(arena, "f32", [1, half], stream)];
        const repeated = (row: Tensor, count: number): Tensor => {
          const rows = Tensor.empty(arena, "f32", [count, row.size]);
          for (let index = 0; index < count; index++) rows.select(0, index).copyFrom(row.reshape([row.size]));
          return rows;
        };
        const cut = 1 + stream.below(tokens);
        expectSameRows(arena, x, width, (from, to) => layers.rmsNorm(from, same, to, 1e-6), cut);
        expectSameRows(arena, x, width, (from, to) => layers.swiGlu(from, repeated(same, from.dim(0)), to), cut);
        expectSameRows(
          arena,
          x,
          width,
          (from, to) => {
            to.copyFrom(from);
            const count = from.dim(0);
            layers.rotate(to.reshape([count, 3, 2 * half]), repeated(cosines, count), repeated(sines, count));
            layers.addInto(to, from);
            layers.addBias(to, same);
          },
          cut,
        );
      } finally {
        arena.close();
      }
    }),
    { numRuns: 40 },
  );
});
