import { expect, test } from "bun:test";
import { type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import { type LayerProgram, OPERATIONS } from "./layer-program.ts";
import { Layers } from "./layers.ts";
import { groupsOf, type Weight } from "./weight.ts";

const [TOKENS, HEADS, DIM, OUTS] = [3, 2, 36, 5];
const WIDTH = HEADS * DIM;
const heap = SharedHeap.create(16 << 20);
const layers = Layers.open(heap, { maxTokens: TOKENS, maxInputs: WIDTH });

function random(shape: number[], seed: number, dtype: DType = "f32"): Tensor {
  let state = seed;
  const size = shape.reduce((product, n) => product * n, 1);
  const values = Array.from({ length: size }, () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return state / 2 ** 31 - 1;
  });
  return Tensor.from(heap, dtype, shape, values);
}

function quantised(rows: number, seed: number): Weight {
  const weight = {
    values: Tensor.empty(heap, "i8", [rows, WIDTH]),
    scales: Tensor.empty(heap, "f32", [rows, groupsOf(WIDTH)]),
  };
  layers.quantise(random([rows, WIDTH], seed), weight);
  return weight;
}

/** A matrix in f16 with an infinity, which the layer for finite ones reads as a number. */
function infiniteF16(shape: number[], seed: number): Tensor {
  const values = random(shape, seed, "f16");
  values.elements[1] = 0x7c00;
  return values;
}

/** Tensors that the sequence below reads and writes, the same each time. */
function operands() {
  return {
    ids: Tensor.from(heap, "i32", [TOKENS], [4, 0, 9]),
    x: random([TOKENS, HEADS, DIM], 1),
    normed: random([TOKENS, HEADS, DIM], 2),
    outs: Array.from({ length: 7 }, () => Tensor.zeros(heap, "f32", [TOKENS, OUTS])),
    embedded: Array.from({ length: 4 }, () => Tensor.zeros(heap, "f32", [TOKENS, WIDTH])),
    norm: random([WIDTH], 3),
    bias: random([OUTS], 4),
    amplitude: Tensor.from(heap, "i32", [2], [0, 0x3ff80000]),
    turns: [random([TOKENS, DIM / 2], 5), random([TOKENS, DIM / 2], 6)],
    weights: [
      { values: random([OUTS, WIDTH], 7) },
      { values: random([OUTS, WIDTH], 8, "bf16") },
      { values: infiniteF16([OUTS, WIDTH], 9) },
      { values: infiniteF16([OUTS, WIDTH], 10), isFinite: true },
      quantised(OUTS, 11),
    ] as readonly Weight[],
    tables: [
      { values: random([8, WIDTH], 12) },
      { values: random([8, WIDTH], 13, "bf16") },
      { values: random([8, WIDTH], 14, "f16") },
      quantised(8, 15),
    ] as readonly Weight[],
  };
}

/** Every layer that can be recorded. */
function sequence({
  ids,
  x,
  normed,
  outs,
  embedded,
  norm,
  bias,
  amplitude,
  turns,
  weights,
  tables,
}: ReturnType<typeof operands>) {
  const [cosines = x, sines = x] = turns;
  layers.rotations(ids, { frequencies: bias, amplitude }, outs[5] ?? x, outs[6] ?? x);
  for (const [index, table] of tables.entries()) layers.embed(ids, table, 1, embedded[index] ?? x);
  layers.addInto(x, normed);
  layers.rmsNorm(x, norm, normed, 1e-5);
  layers.rotate(normed, cosines, sines);
  layers.swiGlu(normed, x, normed);
  for (const [index, weight] of weights.entries()) {
    const out = outs[index] ?? x;
    layers.linear(normed, weight, out);
    layers.addBias(out, bias);
  }
}

const written = ({ x, normed, outs, embedded }: ReturnType<typeof operands>) =>
  [x, normed, ...outs, ...embedded].map(({ bytes }) => bytes.slice());

test("a program gives the bits of its layers called one by one, whole and piece by piece, again and again", () => {
  const direct = operands();
  sequence(direct);
  for (const run of [
    (program: LayerProgram) => program.run(),
    (program: LayerProgram) => {
      for (const index of program.operations.keys()) program.runOne(index);
    },
  ]) {
    const own = operands();
    const before = written(own);
    using program = layers.record(() => sequence(own));
    // Recording computes nothing.
    expect(written(own)).toEqual(before);
    expect(new Set(program.operations)).toEqual(new Set(OPERATIONS));
    run(program);
    expect(written(own)).toEqual(written(direct));
    // Each kind of f16 was read by its own layer.
    expect(own.outs[2]?.f32.slice(0, 1).every(Number.isFinite)).toBe(false);
    expect(own.outs[3]?.f32.every(Number.isFinite)).toBe(true);
  }
  const own = operands();
  using program = layers.record(() => sequence(own));
  program.run();
  own.x.copyFrom(operands().x);
  own.normed.copyFrom(operands().normed);
  program.run();
  expect(written(own)).toEqual(written(direct));
});

test("refuses what the layers refuse, computes as before after it, and gives its memory back", () => {
  const own = operands();
  const free = heap.freeBytes;
  expect(() => layers.record(() => layers.linear(own.x, { values: own.norm }, own.normed))).toThrow("Layers.linear");
  expect(heap.freeBytes).toBe(free);
  layers.record(() => sequence(own)).free();
  expect(heap.freeBytes).toBe(free);
  layers.record(() => {}).run();
  const before = written(own);
  sequence(own);
  expect(written(own)).not.toEqual(before);
});
