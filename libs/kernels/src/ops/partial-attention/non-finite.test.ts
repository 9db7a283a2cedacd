// What is not finite must show in the rows that see it, and in no others.
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, type DType, SharedHeap } from "@lockstep/tensor";
import fc from "fast-check";
import { openGpuDevice } from "../../device/gpu-device.ts";
import { Random } from "../../testing/random.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import { webgpuBackendOn } from "../../backends/webgpu-backend.ts";
import { type AttentionRow, buildAttention } from "./cases.ts";

setDefaultTimeout(600_000);

const heap = SharedHeap.create(64 << 20);
const backends = (await openTestBackends(heap)).map((backend) => ({ backend, what: backend.name as string }));
// A GPU that has matrix units uses them for some of the cases.
if (process.env.LOCKSTEP_TEST_ADAPTER !== "hardware") {
  const matrices = webgpuBackendOn(heap, await openGpuDevice({ adapter: "software", matrices: "emulated" }));
  afterAll(() => matrices.close());
  backends.push({ backend: matrices, what: "matrix units, emulated" });
}

const INFINITIES = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
const SPECIALS = [Number.NaN, ...INFINITIES];
const SIZES = [
  { heads: [4, 2], keyDim: 16, blockSize: 8 },
  { heads: [16, 1], keyDim: 32, blockSize: 16 },
  { heads: [3, 1], keyDim: 5, valueDim: 3, blockSize: 4 },
] as const;

/** One special number in one place of a random problem over one sequence, whose every position this shard holds. */
const problem = fc.record({
  size: fc.constantFrom(...SIZES),
  dtype: fc.constantFrom<DType>("f32", "f16", "bf16", "f8e4m3"),
  rowScales: fc.boolean(),
  length: fc.integer({ min: 1, max: 70 }),
  queries: fc.constantFrom(1, 1, 5),
  window: fc.constantFrom(undefined, 1, 9),
  softcap: fc.constantFrom(undefined, 3),
  special: fc.constantFrom(...SPECIALS),
  place: fc.constantFrom<"key" | "value" | "query">("key", "value", "query"),
  /** The value's key scores so low that its weight is 0 in f32. */
  faint: fc.boolean(),
  at: fc.nat(),
  column: fc.nat(),
});

for (const { backend, what } of backends) {
  test(`what is not finite shows where it is seen, and only there, on ${what}`, () => {
    const arena = new Arena(heap, 4 << 20);
    return fc.assert(
      fc.asyncProperty(problem, async (drawn) => {
        const { size, dtype, place, special, window, softcap } = drawn;
        const queries = Math.min(drawn.queries, drawn.length);
        const row: AttentionRow = {
          ...size,
          lengths: [drawn.length],
          queries: [queries],
          dtype,
          rowScales: drawn.rowScales && dtype === "f8e4m3",
          ...(window === undefined ? {} : { window }),
          ...(softcap === undefined ? {} : { softcap }),
        };
        arena.reset();
        const args = buildAttention(arena, row, new Random(drawn.at));
        const [, kvHeads] = size.heads;
        const { headDim, position } = { headDim: args.valueCache.dim(3), position: drawn.at % drawn.length };
        const kvHead = drawn.column % kvHeads;
        const block = args.blockTable.at(0, Math.floor(position / size.blockSize));
        const slotOf = (cache: typeof args.keyCache) =>
          cache
            .select(0, block)
            .select(0, position % size.blockSize)
            .select(0, kvHead);
        const isWritten = block >= 0;
        const column = drawn.column % (place === "value" ? headDim : size.keyDim);
        const faint = drawn.faint && softcap === undefined && place === "value" && isWritten;
        const token = drawn.at % queries;
        if (faint) {
          args.query.fill(8);
          slotOf(args.keyCache).fill(-200);
        }
        const value = dtype === "f8e4m3" ? Number.NaN : special;
        if (place === "query")
          args.query
            .select(0, token)
            .slice(1, column, column + 1)
            .fill(special);
        else if (isWritten)
          slotOf(place === "key" ? args.keyCache : args.valueCache)
            .slice(0, column, column + 1)
            .fill(value);
        await backend.partialAttention(args);

        const groupSize = size.heads[0] / kvHeads;
        for (let query = 0; query < queries; query++) {
          const own = drawn.length - queries + query;
          const sees = position <= own && (window === undefined || position > own - window);
          for (let head = 0; head < size.heads[0]; head++) {
            const reads = sees && Math.floor(head / groupSize) === kvHead;
            const lse = args.lse.at(query, head);
            const outs = Array.from({ length: headDim }, (_, at) => args.out.at(query, head, at));
            // An infinite key or query of a score with a bound may be finite.
            const capped = softcap !== undefined && !Number.isNaN(place === "query" ? special : value);
            if (place === "value") {
              expect(Number.isFinite(lse)).toBe(true);
              for (const [at, out] of outs.entries()) expect(Number.isFinite(out)).toBe(!(reads && at === column));
            } else if (place === "key" ? !reads : query !== token) {
              expect(Number.isFinite(lse)).toBe(true);
              expect(outs.every(Number.isFinite)).toBe(true);
            } else if (!capped) {
              expect(Number.isNaN(lse)).toBe(true);
              expect(outs.every(Number.isNaN)).toBe(true);
            }
          }
        }
      }),
      { numRuns: backend.name === "webgpu" ? 150 : 300, seed: 11 },
    );
  });
}

// Not on matrix units, where a query has two parts, and an infinity times a part of 0 is NaN.
test("an infinite score that a softcap bounds is a number; NaN is none", async () => {
  for (const { backend } of backends.slice(0, 3)) {
    const arena = new Arena(heap, 1 << 20);
    const row: AttentionRow = { lengths: [3], heads: [4, 1], keyDim: 16, blockSize: 8, softcap: 2 };
    for (const special of SPECIALS) {
      const args = buildAttention(arena, row, new Random(5));
      args.query.fill(1);
      args.keyCache.select(0, args.blockTable.at(0, 0)).slice(0, 0, 3).fill(0);
      args.keyCache.select(0, args.blockTable.at(0, 0)).select(0, 1).fill(special);
      await backend.partialAttention(args);
      const bound = special > 0 ? Math.exp(2) : Math.exp(-2);
      if (Number.isNaN(special)) expect(args.lse.at(0, 2)).toBeNaN();
      else expect(args.lse.at(0, 2)).toBeCloseTo(Math.log(2 + bound), 4);
    }
    arena.close();
  }
});

test("scores of a size up to 1e38 are numbers", async () => {
  for (const { backend, what } of backends.slice(0, 3)) {
    const arena = new Arena(heap, 1 << 20);
    for (const size of [-1e38, -1e31, -1e29, 1e29, 1e31, 1e38]) {
      const row: AttentionRow = { lengths: [9], heads: [2, 1], keyDim: 4, blockSize: 8, scale: 1 };
      const args = buildAttention(arena, row, new Random(6));
      args.query.fill(0);
      args.query.slice(2, 0, 1).fill(Math.sign(size) * 2 ** 60);
      for (const block of args.blockTable.i32) args.keyCache.select(0, block).fill(Math.abs(size) / 2 ** 60);
      args.valueCache.fill(3);
      await backend.partialAttention(args);
      expect([what, size, args.lse.at(0, 0) / size]).toEqual([what, size, expect.closeTo(1, 5)]);
      expect(args.out.at(0, 1, 3)).toBeCloseTo(3, 4);
    }
    arena.close();
  }
});

test("values as large as f32 goes come back finite from rows with scales of their own", async () => {
  const largest = (2 - 2 ** -23) * 2 ** 127;
  for (const { backend, what } of backends.slice(0, 3)) {
    const arena = new Arena(heap, 1 << 20);
    for (const dtype of ["i8", "f8e4m3"] as const) {
      const row: AttentionRow = { lengths: [1], heads: [2, 1], keyDim: 8, blockSize: 4, dtype, rowScales: true };
      const args = buildAttention(arena, row, new Random(7));
      const value = args.out.select(1, 0).unsqueeze(1).clone(arena);
      value.set([largest, -largest, largest / 2, 0, 1, -1e30, largest / 4, 3e38]);
      const slotMapping = [args.blockTable.at(0, 0) * 4];
      const keyScaleCache = args.valueScaleCache ?? expect.unreachable();
      await backend.writeKvCache({ key: value, slotMapping, keyCache: args.valueCache, keyScaleCache });
      await backend.partialAttention(args);
      const outs = [...args.out.select(1, 1).toNumbers()];
      expect([what, dtype, outs.every(Number.isFinite)]).toEqual([what, dtype, true]);
      expect((outs[0] ?? 0) / largest).toBeCloseTo(1, 5);
      expect(outs[1]).toBe(-(outs[0] ?? 0));
      expect(outs[3]).toBe(0);
    }
    arena.close();
  }
});
