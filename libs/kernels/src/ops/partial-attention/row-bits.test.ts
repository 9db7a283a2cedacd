// A row's bits depend on its own query and on the keys that it sees, in the order of their local indexes: not on the
// rows beside it, their heads, sequences or windows, nor on where in the cache its keys lie.
import { afterAll, describe, expect, test } from "bun:test";
import { Arena, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { openBackend } from "../../backends/open-backend.ts";
import { expectSameBits } from "../../testing/close.ts";
import { TEST_TIMEOUT_MS } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { type AttentionRow, buildAttention } from "./cases.ts";
import { contextPart, rowAlone } from "../../testing/attention-rows.ts";

const heap = SharedHeap.create(128 << 20);
const backends = [await openBackend("wasm", { heap }), await openBackend("reference", { heap })];
afterAll(async () => {
  for (const backend of backends) await backend.close();
});

const DTYPES: readonly DType[] = ["f32", "f16", "bf16", "f8e4m3", "i8"];
/** Columns of keys and values: whole and broken vectors, tiles of 128, 112, 64, 48, 32 and 16 keys. */
const DIMS: readonly (readonly [key: number, value: number])[] = [
  [3, 5],
  [8, 8],
  [33, 20],
  [64, 64],
  [80, 72],
  [128, 113],
  [256, 64],
];

const sequence = fc.tuple(
  fc.oneof(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 60, max: 300 })),
  fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 6, max: 40 })),
);

const rows: fc.Arbitrary<AttentionRow> = fc
  .record({
    sequences: fc.array(sequence, { minLength: 1, maxLength: 4 }),
    group: fc.constantFrom(1, 2, 3, 4, 5, 7, 8),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    dims: fc.constantFrom(...DIMS),
    interleave: fc.constantFrom(1, 2, 3),
    blocks: fc.integer({ min: 1, max: 6 }),
    dtype: fc.constantFrom(...DTYPES),
    shards: fc.integer({ min: 1, max: 4 }),
    window: fc.option(fc.integer({ min: 1, max: 150 }), { nil: undefined }),
    softcap: fc.option(fc.constant(5), { nil: undefined }),
    hasSinks: fc.boolean(),
    rowScales: fc.boolean(),
    shuffled: fc.boolean(),
    padding: fc.boolean(),
    seed: fc.nat(),
  })
  .map((drawn) => {
    const { sequences, group, kvHeads, dims, interleave, blocks, dtype, shards, hasSinks, rowScales, seed } = drawn;
    const random = new Random(seed);
    const isQuantised = dtype === "f8e4m3" || dtype === "i8";
    const { window, softcap } = drawn;
    return {
      lengths: sequences.map(([length]) => length),
      queries: sequences.map(([length, queries]) => Math.min(length, queries)),
      heads: [group * kvHeads, kvHeads],
      keyDim: dims[0],
      valueDim: dims[1],
      blockSize: interleave * blocks,
      dtype,
      shard: { index: random.integer(shards), count: shards, interleave },
      ...(window === undefined ? {} : { window }),
      ...(softcap === undefined ? {} : { softcap }),
      ...(hasSinks ? { sinks: Array.from(random.normals(group * kvHeads)) } : {}),
      rowScales: isQuantised && rowScales,
      shuffled: drawn.shuffled,
      padding: drawn.padding,
    };
  });

describe.each(backends.map((backend) => [backend.name, backend] as const))(
  "partialAttention on %s",
  (name, backend) => {
    test(
      "gives a row the same bits alone as in any batch",
      () => {
        let compared = 0;
        fc.assert(
          fc.property(rows, fc.nat(), (row, seed) => {
            const arena = new Arena(heap, 24 << 20);
            try {
              const random = new Random(seed);
              const args = buildAttention(arena, row, random);
              void backend.partialAttention(args);
              const [tokens = 0, heads = 0] = args.query.shape;
              for (let trial = 0; trial < Math.min(4, tokens); trial++) {
                const token = random.integer(tokens);
                const from = random.integer(heads);
                const to = from + 1 + random.integer(heads - from);
                const one = rowAlone(arena, args, token, [from, to], random);
                void backend.partialAttention(one);
                const own = (tensor: Tensor): Tensor => tensor.slice(0, token, token + 1).slice(1, from, to);
                expectSameBits("out", own(args.out), one.out);
                expectSameBits("lse", own(args.lse), one.lse);
                compared++;
              }
            } finally {
              arena.close();
            }
          }),
          { numRuns: name === "reference" ? 15 : 150 },
        );
        expect(compared).toBeGreaterThan(10);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      "gives the bits of one call over a context in several calls over its parts",
      () => {
        fc.assert(
          fc.property(rows, fc.nat(), (row, seed) => {
            const arena = new Arena(heap, 48 << 20);
            try {
              const random = new Random(seed);
              const args = buildAttention(arena, row, random);
              void backend.partialAttention(args);
              const [tokens = 0, heads = 0] = args.query.shape;
              const { keyDim, valueDim = keyDim } = row;
              const width = backend.sumsWidth(valueDim) ?? expect.unreachable();
              const state = Tensor.empty(arena, "f32", [tokens, heads, width]).fill(Number.NaN);
              const [out, lse] = [state.slice(2, 0, valueDim), state.select(2, valueDim)];
              const border = backend.sumsBorder(keyDim, valueDim);
              const length = args.blockTable.dim(1) * row.blockSize;
              for (let first = 0; first < length; ) {
                const end = first + border * (1 + random.integer(3));
                const sums = { state, isFirst: first === 0, isLast: end >= length };
                void backend.partialAttention({ ...args, ...contextPart(arena, args, first, end), sums, out, lse });
                first = end;
              }
              expectSameBits("out", out, args.out);
              expectSameBits("lse", lse, args.lse);
            } finally {
              arena.close();
            }
          }),
          { numRuns: name === "reference" ? 15 : 80 },
        );
      },
      TEST_TIMEOUT_MS,
    );
  },
);
