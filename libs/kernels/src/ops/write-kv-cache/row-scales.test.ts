// Laws of scales of rows, on every backend: what is stored is as near as the dtype allows, and says so of what is not
// finite.
import { expect, setDefaultTimeout, test } from "bun:test";
import { Arena, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { rowScale } from "../../kv/row-scales.ts";
import { openTestBackends } from "../../testing/test-backends.ts";

setDefaultTimeout(300_000);

const heap = SharedHeap.create(16 << 20);
const backends = await openTestBackends(heap);
const LARGEST = { i8: 127, f8e4m3: 448 } as const;
type Quantised = keyof typeof LARGEST;

/** Rows of 1 to 37 f32, of any magnitude that f32 has. */
const rows = fc
  .record({
    dim: fc.integer({ min: 1, max: 37 }),
    exponents: fc.array(fc.integer({ min: -140, max: 127 }), { minLength: 1, maxLength: 24 }),
    seed: fc.nat(),
  })
  .map(({ dim, exponents, seed }) => {
    let state = seed >>> 0;
    const next = (): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 31 - 1;
    };
    return exponents.map((exponent) => Array.from({ length: dim }, () => Math.fround(next() * 2 ** exponent)));
  });

/** What every backend stores of rows: the elements' numbers and the scales. */
async function stored(
  arena: Arena,
  backend: (typeof backends)[number],
  dtype: Quantised,
  given: readonly (readonly number[])[],
): Promise<{ numbers: Float64Array; scales: Float32Array }> {
  const [tokens, dim] = [given.length, given[0]?.length ?? 0];
  const keyCache = Tensor.empty(arena, dtype, [tokens, 1, 1, dim]);
  const keyScaleCache = Tensor.empty(arena, "f32", [tokens, 1, 1, 1]).fill(Number.NaN);
  await backend.writeKvCache({
    key: Tensor.from(arena, "f32", [tokens, 1, dim], given.flat()),
    slotMapping: given.map((_, slot) => slot),
    keyCache,
    keyScaleCache,
  });
  return { numbers: keyCache.toNumbers(), scales: keyScaleCache.f32.slice() };
}

for (const backend of backends) {
  const isGpu = backend.name === "webgpu";

  test(`an element is off by at most half a step, and stands for no more than the row held, on ${backend.name}`, () => {
    const arena = new Arena(heap, 1 << 20);
    return fc.assert(
      fc.asyncProperty(rows, fc.constantFrom<Quantised>("i8", "f8e4m3"), async (given, dtype) => {
        arena.reset();
        const { numbers, scales } = await stored(arena, backend, dtype, given);
        for (const [token, row] of given.entries()) {
          const scale = scales[token] ?? Number.NaN;
          const most = Math.max(...row.map(Math.abs));
          expect(scale).toBe(rowScale(dtype, row));
          expect(Number.isFinite(Math.fround(scale * LARGEST[dtype]))).toBe(true);
          if (scale > 2 ** -100) expect(scale * LARGEST[dtype]).toBeLessThanOrEqual(most);
          for (const [column, x] of row.entries()) {
            const q = numbers[token * row.length + column] ?? Number.NaN;
            // Half a unit in the last place of e4m3, or of its smallest numbers.
            const half =
              dtype === "i8" ? 0.5 : Math.max(2 ** -10, 2 ** (Math.floor(Math.log2(Math.abs(x / scale))) - 4));
            expect(Math.abs(x / scale - q)).toBeLessThanOrEqual(half * (1 + 2 ** -14));
          }
        }
      }),
      { numRuns: isGpu ? 60 : 500, seed: 12 },
    );
  });

  test(`rows that the dtype can hold come back exactly on ${backend.name}`, () => {
    const arena = new Arena(heap, 1 << 20);
    const exact = fc.record({
      dtype: fc.constantFrom<Quantised>("i8", "f8e4m3"),
      exponent: fc.integer({ min: -99, max: 117 }),
      patterns: fc.array(fc.integer({ min: 0, max: 254 }), { minLength: 1, maxLength: 40 }),
      negative: fc.boolean(),
    });
    return fc.assert(
      fc.asyncProperty(exact, async ({ dtype, exponent, patterns, negative }) => {
        arena.reset();
        const all = Tensor.empty(arena, dtype, [256]);
        for (let bits = 0; bits < 256; bits++) all.elements[bits] = bits;
        const holds = [...all.toNumbers()].filter((x) => Math.abs(x) <= LARGEST[dtype]);
        const row = patterns.map((pattern) => (holds[pattern % holds.length] ?? 0) * 2 ** exponent);
        row.push((negative ? -1 : 1) * LARGEST[dtype] * 2 ** exponent);
        const { numbers, scales } = await stored(arena, backend, dtype, [row]);
        expect(scales[0]).toBe(2 ** exponent);
        expect([...numbers].map((q) => q * (scales[0] ?? 0) + 0)).toEqual(row.map((x) => x + 0));
      }),
      { numRuns: isGpu ? 60 : 500, seed: 13 },
    );
  });

  test(`rows of zeros and of the smallest numbers stand for zeros on ${backend.name}`, async () => {
    const arena = new Arena(heap, 1 << 20);
    const given = [
      [0, 0, 0, 0, 0],
      [-0, -0, -0, -0, -0],
      [2 ** -149, -(2 ** -149), 2 ** -126, 2 ** -130, 0],
      [2 ** -112, -(2 ** -112), 0, 0, 0],
    ];
    for (const dtype of ["i8", "f8e4m3"] as const) {
      const { numbers, scales } = await stored(arena, backend, dtype, given);
      expect([...numbers].every((q) => q === 0)).toBe(true);
      expect([...scales]).toEqual([2 ** -100, 2 ** -100, 2 ** -100, 2 ** -100]);
    }
    arena.close();
  });

  test(`what is not finite is NaN in e4m3, and leaves the rest of its row as it was, on ${backend.name}`, async () => {
    const arena = new Arena(heap, 1 << 20);
    const row = [0.7, -3.25, 0, 1.5, 2, -0.125, 1e-3];
    for (const dtype of ["i8", "f8e4m3"] as const satisfies readonly DType[]) {
      const whole = await stored(arena, backend, dtype, [row]);
      for (const special of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        for (const at of [0, 3, 5, 6]) {
          const { numbers, scales } = await stored(arena, backend, dtype, [row.with(at, special)]);
          expect(scales[0]).toBe(whole.scales[0]);
          const wanted = [...whole.numbers];
          wanted[at] = dtype === "f8e4m3" ? Number.NaN : Number.isNaN(special) ? 0 : special > 0 ? 127 : -128;
          expect([...numbers]).toEqual(wanted);
        }
      }
      const { numbers, scales } = await stored(arena, backend, dtype, [[Number.NaN, Number.POSITIVE_INFINITY]]);
      expect(scales[0]).toBe(2 ** -100);
      if (dtype === "f8e4m3") expect([...numbers]).toEqual([Number.NaN, Number.NaN]);
    }
    arena.close();
  });
}
