import { expect, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { Layers } from "./layers.ts";

const heap = SharedHeap.create(1 << 20);
const layers = Layers.open(heap);

/** Cosines and sines of the positions, row after row. */
function rotations(positions: readonly number[], frequencies: readonly number[], amplitude = 1) {
  const shape = [positions.length, frequencies.length];
  const tensors = {
    positions: Tensor.from(heap, "i32", [positions.length], positions),
    frequencies: Tensor.from(heap, "f32", [frequencies.length], frequencies),
    amplitude: Tensor.empty(heap, "i32", [2]),
    cosines: Tensor.empty(heap, "f32", shape).fill(Number.NaN),
    sines: Tensor.empty(heap, "f32", shape).fill(Number.NaN),
  };
  const { buffer, byteOffset } = tensors.amplitude.i32;
  new Float64Array(buffer, byteOffset, 1)[0] = amplitude;
  layers.rotations(tensors.positions, tensors, tensors.cosines, tensors.sines);
  const found = { cosines: tensors.cosines.f32.slice(), sines: tensors.sines.f32.slice() };
  for (const tensor of Object.values(tensors)) tensor.free();
  return found;
}

/** What is `exact` to within 1e-15, times the amplitude, rounded to f32: nothing else, as far as that decides. */
function expectRounded(found: number, exact: number, amplitude: number): void {
  expect(found).toBeGreaterThanOrEqual(Math.fround(amplitude * (exact - 1e-15)));
  expect(found).toBeLessThanOrEqual(Math.fround(amplitude * (exact + 1e-15)));
}

test("cosines and sines are the engine's, rounded to f32, over long texts", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: (1 << 20) - 1 }), { minLength: 1, maxLength: 5 }),
      fc.array(fc.float({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 9 }),
      fc.constantFrom(1, 0.5, 1.25),
      (positions, frequencies, amplitude) => {
        const { cosines, sines } = rotations(positions, frequencies, amplitude);
        for (const [row, position] of positions.entries()) {
          for (const [index, frequency] of frequencies.entries()) {
            const angle = Math.fround(position * frequency);
            const at = row * frequencies.length + index;
            const [cosine = Number.NaN, sine = Number.NaN] = [cosines[at], sines[at]];
            expectRounded(cosine, Math.cos(angle), amplitude);
            expectRounded(sine, Math.sin(angle), amplitude);
          }
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("every quarter turn, and no turn at all", () => {
  const quarter = Math.fround(Math.PI / 2);
  const { cosines, sines } = rotations([0, 1, 2, 3, 4, 5, 1001], [quarter]);
  expect([cosines[0], sines[0]]).toEqual([1, 0]);
  for (const [row, turns] of [0, 1, 2, 3, 4, 5, 1001].entries()) {
    const angle = Math.fround(turns * quarter);
    expect(cosines[row]).toBe(Math.fround(Math.cos(angle)));
    expect(sines[row]).toBe(Math.fround(Math.sin(angle)));
  }
});

test("rows follow the positions, whatever the step they belong to", () => {
  const frequencies = [1, 0.1, 0.01, 0.001];
  const all = rotations([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], frequencies);
  const later = rotations([8, 9], frequencies);
  expect(later.cosines).toEqual(all.cosines.slice(32));
  expect(later.sines).toEqual(all.sines.slice(32));
});

test("refuses shapes that disagree", () => {
  const [positions, half, rows] = [
    Tensor.zeros(heap, "i32", [2]),
    Tensor.zeros(heap, "f32", [3]),
    Tensor.zeros(heap, "f32", [2, 3]),
  ];
  const turns = { frequencies: half, amplitude: Tensor.zeros(heap, "i32", [2]) };
  expect(() => layers.rotations(rows, turns, rows, rows)).toThrow("`positions` must be");
  expect(() => layers.rotations(positions, turns, half, rows)).toThrow("`cosines` must be");
  expect(() => layers.rotations(positions, turns, rows, half)).toThrow("`sines` must be");
  const apart = Tensor.zeros(heap, "i32", [2, 2]).slice(1, 0, 1);
  for (const amplitude of [Tensor.zeros(heap, "f32", [2]), Tensor.zeros(heap, "i32", [1]), apart]) {
    const wrong = { frequencies: half, amplitude };
    expect(() => layers.rotations(positions, wrong, rows, rows)).toThrow("`amplitude` must be");
  }
});
