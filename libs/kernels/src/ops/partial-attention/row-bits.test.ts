// A row's bits depend on its own query and on the keys that it sees, in the order of their local indexes: not on the
// rows beside it, their heads, sequences or windows, nor on where in the cache its keys lie.
import { afterAll, describe, expect, test } from "bun:test";
import { Arena, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { openBackend } from "../../backends/open-backend.ts";
import { UNSHARDED, visibleRange } from "../../kv/kv-ownership.ts";
import { expectSameBits } from "../../testing/close.ts";
import { TEST_TIMEOUT_MS } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { type AttentionRow, buildAttention, type HeapPartialAttentionArgs } from "./cases.ts";
import { attentionTileKeys } from "./continued-sums.ts";
import type { UnplannedAttentionArgs } from "./index.ts";

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

/** One token and heads [from, to) of a batch, its keys in scattered blocks of another size, all else in them NaN. */
function alone(
  arena: Arena,
  args: HeapPartialAttentionArgs,
  token: number,
  [from, to]: readonly [number, number],
  random: Random,
): HeapPartialAttentionArgs {
  const { query, shard = UNSHARDED, window, sinks, keyCache, valueCache } = args;
  const position = args.positions[token] ?? -1;
  const row = args.sequences[token] ?? 0;
  const { start, end } = visibleRange(shard, position, window);
  const oldSize = keyCache.dim(1);
  const blockSize = shard.interleave * (1 + random.integer(20));
  const blocks = Math.ceil(end / blockSize);
  const order = random.permutation(blocks + 2);
  const blockTable = Tensor.empty(arena, "i32", [1, Math.max(1, blocks)]).fill(-1);
  const moved = (cache: Tensor): Tensor => {
    const place = Tensor.empty(arena, cache.dtype, [blocks + 2, blockSize, ...cache.shape.slice(2)]);
    place.fill(cache.dtype === "i8" ? -128 : Number.NaN);
    for (let local = start; local < end; local++) {
      const block = order[Math.floor(local / blockSize)] ?? 0;
      blockTable.i32[Math.floor(local / blockSize)] = block;
      const source = cache.select(0, args.blockTable.at(row, Math.floor(local / oldSize))).select(0, local % oldSize);
      place
        .select(0, block)
        .select(0, local % blockSize)
        .copyFrom(source);
    }
    return place;
  };
  const { keyScale, valueScale, keyScaleCache, valueScaleCache } = args;
  const rowScales =
    keyScaleCache instanceof Tensor && valueScaleCache instanceof Tensor
      ? { keyScaleCache: moved(keyScaleCache), valueScaleCache: moved(valueScaleCache) }
      : {};
  const group = query.dim(1) / keyCache.dim(2);
  return {
    query: query.slice(0, token, token + 1).slice(1, from, to),
    keyCache: moved(keyCache),
    valueCache: moved(valueCache),
    blockTable,
    sequences: [0],
    positions: [position],
    shard,
    headGroup: { size: group, offset: from },
    ...rowScales,
    ...(keyScale === undefined ? {} : { keyScale }),
    ...(valueScale === undefined ? {} : { valueScale }),
    ...(args.softcap === undefined ? {} : { softcap: args.softcap }),
    ...(window === undefined ? {} : { window }),
    ...(sinks === undefined ? {} : { sinks: sinks.slice(0, from, to) }),
    out: Tensor.empty(arena, "f32", [1, to - from, valueCache.dim(3)]).fill(Number.NaN),
    lse: Tensor.empty(arena, "f32", [1, to - from]).fill(Number.NaN),
  };
}

/** A copy of the local indexes [first, end) of every sequence: one block each, all else in it NaN. */
function chunk(
  arena: Arena,
  args: HeapPartialAttentionArgs,
  first: number,
  end: number,
): Partial<UnplannedAttentionArgs> {
  const { blockTable, shard = UNSHARDED, keyCache, valueCache, keyScaleCache, valueScaleCache } = args;
  const [sequences = 0, columns = 0] = blockTable.shape;
  const blockSize = keyCache.dim(1);
  const copy = (cache: Tensor): Tensor => {
    const blocks = Tensor.empty(arena, cache.dtype, [sequences, end - first, ...cache.shape.slice(2)]);
    blocks.fill(cache.dtype === "i8" ? -128 : Number.NaN);
    for (let row = 0; row < sequences; row++) {
      for (let local = first; local < Math.min(end, columns * blockSize); local++) {
        const block = blockTable.at(row, Math.floor(local / blockSize));
        if (block < 0) continue;
        blocks
          .select(0, row)
          .select(0, local - first)
          .copyFrom(cache.select(0, block).select(0, local % blockSize));
      }
    }
    return blocks;
  };
  const rowScales =
    keyScaleCache instanceof Tensor && valueScaleCache instanceof Tensor
      ? { keyScaleCache: copy(keyScaleCache), valueScaleCache: copy(valueScaleCache) }
      : {};
  return {
    keyCache: copy(keyCache),
    valueCache: copy(valueCache),
    ...rowScales,
    blockTable: Tensor.from(arena, "i32", [sequences, 1], [...Array(sequences).keys()]),
    segments: Array.from({ length: sequences }, () => ({ first, count: end - first })),
    shard,
  };
}

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
                const one = alone(arena, args, token, [from, to], random);
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
              const border = attentionTileKeys(keyDim, valueDim);
              const length = args.blockTable.dim(1) * row.blockSize;
              for (let first = 0; first < length; ) {
                const end = first + border * (1 + random.integer(3));
                const sums = { state, isFirst: first === 0, isLast: end >= length };
                void backend.partialAttention({ ...args, ...chunk(arena, args, first, end), sums, out, lse });
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
