// The bound that the contract of latticeSums states for the error of a result, against float64.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { openBackend } from "../../backends/open-backend.ts";
import { Random } from "../../testing/random.ts";
import { latticeExponent } from "./lattice.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = [await openBackend("reference", { heap }), await openBackend("wasm", { heap })];
afterAll(() => Promise.all(backends.map((backend) => backend.close())));

const BLOCK_SIZE = 16;
const DIM = 4;
/** What a weight in f32 may be off by, of itself: two units in its last place (exp2Negative4). */
const OF_WEIGHT = 2 ** -22;

const context = fc.record({
  dtype: fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
  keys: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 600 })),
  heads: fc.constantFrom(1, 4, 16, 19),
  /** Of scores, in units of ln 2. */
  spread: fc.constantFrom(0, 1, 12, 40),
  /** Of values, in powers of two. */
  binades: fc.constantFrom(0, 4, 20),
  seed: fc.nat({ max: 1e6 }),
});

for (const backend of backends) {
  test(`results on ${backend.name} are as close to float64 as latticeSums states`, () => {
    const arena = new Arena(heap, 16 << 20);
    fc.assert(
      fc.property(context, ({ dtype, keys, heads, spread, binades, seed }) => {
        arena.reset();
        const random = new Random(seed);
        const blocks = Math.ceil(keys / BLOCK_SIZE);
        const cache = (numbers: () => number): Tensor => {
          const tensor = Tensor.empty(arena, dtype, [blocks, BLOCK_SIZE, 1, DIM]);
          return tensor.set(Array.from({ length: tensor.size }, numbers));
        };
        // Multiples of 2^-2: scores, which are the first columns of the keys, are exact in f32, whatever the dtype.
        const keyCache = cache(() => (random.integer(4 * spread + 1) - 4 * spread) / 4);
        const valueCache = cache(() => random.normal() * 2 ** (random.integer(binades + 1) - (binades >> 1)));
        const query = Tensor.zeros(arena, "f32", [1, heads, DIM]);
        for (let head = 0; head < heads; head++)
          query
            .select(1, head)
            .slice(1, 0, 1)
            .fill(1 + (head % 2));
        const bounds = Tensor.empty(arena, "f32", [3, 1, heads]);
        const sums = Tensor.empty(arena, "i32", [1, heads, DIM + 1, 2]);
        const out = Tensor.empty(arena, "f32", [1, heads, DIM]);
        const lse = Tensor.empty(arena, "f32", [1, heads]);
        const blockTable = Tensor.from(
          arena,
          "i32",
          [1, blocks],
          Array.from({ length: blocks }, (_, block) => block),
        );
        const step = { blockTable, sequences: [0], positions: [keys - 1] };
        const inputs = { query, keyCache, valueCache, ...step, scale: Math.LN2 };
        backend.attentionBounds({ ...inputs, bounds });
        backend.latticeSums({ ...inputs, bounds, sums });
        backend.finishLattice({ bounds, sums, out, lse });

        const [scores, values] = [keyCache.toNumbers(), valueCache.toNumbers()];
        for (let head = 0; head < heads; head++) {
          const scoreOf = (key: number): number => (scores[key * DIM] ?? 0) * (1 + (head % 2));
          let largest = Number.NEGATIVE_INFINITY;
          for (let key = 0; key < keys; key++) largest = Math.max(largest, scoreOf(key));
          expect(bounds.at(0, 0, head)).toBe(largest);
          const exponent = latticeExponent(largest, bounds.at(1, 0, head), bounds.at(2, 0, head));
          for (let column = 0; column < DIM; column++) {
            let [weights, sum, magnitudes] = [0, 0, 0];
            for (let key = 0; key < keys; key++) {
              const weight = 2 ** (scoreOf(key) - largest);
              const value = values[key * DIM + column] ?? 0;
              weights += weight;
              sum += weight * value;
              magnitudes += weight * Math.abs(value);
            }
            const exact = sum / weights;
            const size = 2 ** exponent + Math.abs(exact);
            const stated = (keys * 3 * 2 ** -28 * size) / weights + 2 ** -23 * Math.abs(exact);
            const ofWeights = (2 * OF_WEIGHT * magnitudes) / weights;
            expect(Math.abs(out.at(0, head, column) - exact)).toBeLessThanOrEqual(stated + ofWeights);
          }
        }
      }),
      { numRuns: 300, seed: 27 },
    );
    arena.close();
  });
}
