import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { type KvShard, kvBlockSize, kvOwner, UNSHARDED } from "../../kv/kv-ownership.ts";
import { F32_TOLERANCE, expectClose, expectSameBits } from "../../testing/close.ts";
import { expectRejected, TEST_TIMEOUT_MS, testCases } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import { type AttentionRow, buildAttention, type HeapPartialAttentionArgs, PARTIAL_ATTENTION_CASES } from "./cases.ts";
import type { UnplannedAttentionArgs } from "./index.ts";
import { partialAttentionReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(128 << 20);
const backends = await openTestBackends(heap);

testCases(heap, backends, {
  name: "partialAttention",
  cases: PARTIAL_ATTENTION_CASES,
  outputs: (args) => [
    ["out", args.out],
    ["lse", args.lse],
  ],
  reference: partialAttentionReference,
  run: (backend, args) => backend.partialAttention(args),
});

testCases(heap, backends, {
  name: "partialAttention of a plan",
  cases: PARTIAL_ATTENTION_CASES,
  outputs: (args) => [
    ["out", args.out],
    ["lse", args.lse],
  ],
  reference: partialAttentionReference,
  run: (backend, args) => {
    const { blockTable, sequences, positions, shard, segments, window, ...operands } = args;
    const [numBlocks = 0, blockSize = 0] = args.keyCache.shape;
    const optional = { ...(shard && { shard }), ...(segments && { segments }), ...(window && { window }) };
    const plan = backend.planAttention({ blockTable, sequences, positions, ...optional }, { numBlocks, blockSize });
    const done = backend.partialAttention({ ...operands, plan });
    // An op has what it needs of its plan when it returns.
    plan.free();
    return done;
  },
});

/** Two tokens in one block, one head of two columns; the query is the second token. */
function twoTokens(): HeapPartialAttentionArgs {
  return {
    query: Tensor.from(heap, "f32", [1, 1, 2], [1, 0]),
    keyCache: Tensor.from(heap, "f32", [1, 2, 1, 2], [0, 5, Math.log(3), -5]),
    valueCache: Tensor.from(heap, "f32", [1, 2, 1, 2], [8, 0, 0, 4]),
    blockTable: Tensor.from(heap, "i32", [1, 1], [0]),
    sequences: [0],
    positions: [1],
    scale: 1,
    out: Tensor.empty(heap, "f32", [1, 1, 2]),
    lse: Tensor.empty(heap, "f32", [1, 1]),
  };
}

test("the reference computes what can be worked out by hand", () => {
  const args = twoTokens();
  partialAttentionReference(args);
  // Scores 0 and ln 3: weights 1/4 and 3/4, LSE ln 4.
  expectClose("out", args.out, Tensor.from(heap, "f32", [1, 1, 2], [2, 3]), F32_TOLERANCE);
  expect(args.lse.at(0, 0)).toBeCloseTo(Math.log(4), 6);
  partialAttentionReference({ ...args, softcap: 0.5 });
  const capped = 0.5 * Math.tanh(2 * Math.log(3));
  expect(args.lse.at(0, 0)).toBeCloseTo(Math.log(1 + Math.exp(capped)), 6);
  partialAttentionReference({ ...args, sinks: Tensor.from(heap, "f32", [1], [Math.log(4)]) });
  // A sink as heavy as both keys halves the output.
  expectClose("out", args.out, Tensor.from(heap, "f32", [1, 1, 2], [1, 1.5]), F32_TOLERANCE);
  expect(args.lse.at(0, 0)).toBeCloseTo(Math.log(8), 6);
  partialAttentionReference({ ...args, window: 1 });
  expectClose("out", args.out, Tensor.from(heap, "f32", [1, 1, 2], [0, 4]), F32_TOLERANCE);
  expect(args.lse.at(0, 0)).toBeCloseTo(Math.log(3), 6);
});

const good = twoTokens();
const tensor = (dtype: "f32" | "f16" | "i32", ...shape: number[]): Tensor => Tensor.empty(heap, dtype, shape).fill(0);
const quantised = Tensor.zeros(heap, "f8e4m3", [1, 2, 1, 2]);
const BAD: readonly [what: string, changes: Partial<UnplannedAttentionArgs>, message: RegExp][] = [
  ["a query of two dimensions", { query: tensor("f32", 1, 2) }, /`query` must be of shape \[any, any, any\]/],
  ["an integer query", { query: tensor("i32", 1, 1, 2) }, /`query` must be of dtype f32, f16, bf16, f8e4m3/],
  ["keys of another head dim", { keyCache: tensor("f32", 1, 2, 1, 3) }, /`keyCache` must be of shape/],
  [
    "values of another cache shape",
    { valueCache: tensor("f32", 1, 3, 1, 2) },
    /`valueCache` must be of shape \[1, 2, 1/,
  ],
  ["values of another dtype", { valueCache: tensor("f16", 1, 2, 1, 2) }, /`valueCache` must be of dtype f32/],
  ["a block size of 0", { keyCache: tensor("f32", 1, 0, 1, 2) }, /block size/],
  [
    "key columns with gaps",
    { keyCache: tensor("f32", 1, 2, 1, 4).slice(3, 0, 4, 2) },
    /`keyCache` must be of stride 1/,
  ],
  ["a block table of one dimension", { blockTable: tensor("i32", 1) }, /`blockTable` must be of shape \[any, any\]/],
  ["a block table of floats", { blockTable: tensor("f32", 1, 1) }, /`blockTable` must be of dtype i32/],
  [
    "a block out of range",
    { blockTable: tensor("i32", 1, 1).fill(1) },
    /`blockTable\[0, 0\]` must be from 0 to 0.*but is 1/,
  ],
  ["a negative block", { blockTable: tensor("i32", 1, 1).fill(-1) }, /`blockTable\[0, 0\]`.*but is -1/],
  ["a position beyond the blocks", { positions: [2] }, /`blockTable` must be at least 2 blocks wide for position 2/],
  ["a position of -2", { positions: [-2] }, /`positions\[0\]`/],
  ["a fractional position", { positions: [0.5] }, /`positions\[0\]`/],
  ["too few positions", { positions: [] }, /`positions` must be 1 entries, one per query token/],
  ["a sequence beyond the table", { sequences: [1] }, /`sequences\[0\]` must be an integer from 0 to 0, but is 1/],
  ["too many sequences", { sequences: [0, 0] }, /`sequences` must be 1 entries/],
  [
    "an interleave that does not divide",
    { shard: { index: 0, count: 1, interleave: 3 } },
    /`shard.interleave` must be a/,
  ],
  [
    "a shard index beyond the count",
    { shard: { index: 2, count: 2, interleave: 1 } },
    /`shard.index` must be from 0 to 1/,
  ],
  ["a shard count of 0", { shard: { index: 0, count: 0, interleave: 1 } }, /`shard.count`/],
  ["a scale of NaN", { scale: Number.NaN }, /`scale` must be 0, or of a size from 2\^-126/],
  ["a scale that f32 takes for 0", { scale: 1e-46 }, /`scale`/],
  ["a scale that is infinite in f32", { scale: -1e39 }, /`scale`/],
  ["a scale that is infinite times log2(e)", { scale: 2.4e38 }, /`scale`/],
  ["a softcap that f32 takes for 0", { softcap: 1e-46 }, /`softcap`/],
  ["a softcap that is infinite times log2(e)", { softcap: 2.4e38 }, /`softcap`/],
  ["a sink of NaN", { sinks: Tensor.from(heap, "f32", [1], [Number.NaN]) }, /`sinks\[0\]`/],
  ["a sink of +inf", { sinks: Tensor.from(heap, "f32", [1], [Number.POSITIVE_INFINITY]) }, /`sinks\[0\]`/],
  ["a sink that is infinite times log2(e)", { sinks: Tensor.from(heap, "f32", [1], [2.4e38]) }, /`sinks\[0\]`/],
  ["a softcap of 0", { softcap: 0 }, /`softcap` must be a positive number from 2\^-126 .* but is 0/],
  ["a negative softcap", { softcap: -1 }, /`softcap`/],
  ["a window of 0", { window: 0 }, /`window`/],
  [
    "heads that no group maps",
    { headGroup: { size: 1, offset: 1 } },
    /`headGroup` must be one that maps 1 query heads/,
  ],
  ["a group of size 0", { headGroup: { size: 0, offset: 0 } }, /`headGroup.size`/],
  [
    "heads that do not divide",
    { keyCache: tensor("f32", 1, 2, 2, 2), valueCache: tensor("f32", 1, 2, 2, 2) },
    /multiple/,
  ],
  ["too few segments", { segments: [] }, /`segments` must be 1, one per row of blockTable, but is 0/],
  ["a segment before the first position", { segments: [{ first: -1, count: 1 }] }, /`segments\[0\].first`/],
  ["sinks of another head count", { sinks: tensor("f32", 2) }, /`sinks` must be of shape \[1\], but is \[2\]/],
  ["sinks in f16", { sinks: tensor("f16", 1) }, /`sinks` must be of dtype f32/],
  [
    "a quantised cache without scales",
    { keyCache: quantised, valueCache: quantised },
    /`keyScale` must be 1 scale, or 1 for the KV heads \(or `\w+`\), because `keyCache` is f8e4m3, but is left out/,
  ],
  [
    "a quantised cache without a scale of the values",
    { keyCache: quantised, valueCache: quantised, keyScale: [1] },
    /`valueScale` must be 1 scale, or 1 for the KV heads \(or `\w+`\), because `valueCache` is f8e4m3, but is left out/,
  ],
  ["a scale for floats", { keyScale: [1] }, /`keyScale` must be left out for a `keyCache` of f32, but is \[1\]/],
  [
    "too many scales",
    { keyCache: quantised, valueCache: quantised, keyScale: [1, 2], valueScale: [1] },
    /`keyScale` must be 1 scale.*but is \[1, 2\]/,
  ],
  [
    "a scale of 0",
    { keyCache: quantised, valueCache: quantised, keyScale: [0], valueScale: [1] },
    /`keyScale` must be from 2\^-120 to 2\^120, but is 0/,
  ],
  [
    "row scales of keys alone",
    { keyCache: quantised, valueCache: quantised, keyScaleCache: tensor("f32", 1, 2, 1, 1), valueScale: [1] },
    /`valueScaleCache` must be given or left out like `keyScaleCache`, but is left out/,
  ],
  [
    "row scales of another shape",
    {
      keyCache: quantised,
      valueCache: quantised,
      keyScaleCache: tensor("f32", 1, 2, 1, 2),
      valueScaleCache: tensor("f32", 1, 2, 1, 1),
    },
    /`keyScaleCache` must be of shape \[1, 2, 1, 1\]/,
  ],
  [
    "row scales of a cache of floats",
    { keyScaleCache: tensor("f32", 1, 2, 1, 1), valueScaleCache: tensor("f32", 1, 2, 1, 1) },
    /`keyScaleCache` must be left out for a `keyCache` of f32/,
  ],
  ["an out of another shape", { out: tensor("f32", 1, 1, 3) }, /`out` must be of shape \[1, 1, 2\]/],
  ["an f16 out", { out: tensor("f16", 1, 1, 2) }, /`out` must be of dtype f32/],
  ["an lse of another shape", { lse: tensor("f32", 1, 2) }, /`lse` must be of shape \[1, 1\]/],
];

/** How tokens are dealt to shards: evenly, by weight, one without any, one with all. */
const DEALS: readonly Omit<KvShard, "index">[] = [
  { count: 2, interleave: 1 },
  { count: 3, interleave: 4 },
  { count: 8, interleave: 8 },
  { count: 2, interleave: 1, weights: [3, 1] },
  { count: 3, interleave: 4, weights: [1, 0, 5] },
  { count: 2, interleave: 8, weights: [0, 1] },
];

const SHARDED: readonly AttentionRow[] = [
  { lengths: [100, 7], heads: [4, 2], keyDim: 16, blockSize: 16 },
  { lengths: [33, 20], queries: [5, 3], heads: [4, 2], keyDim: 16, blockSize: 8, window: 9 },
];

for (const backend of backends) {
  describe(`partialAttention on ${backend.name} rejects`, () => {
    for (const [what, changes, message] of BAD) {
      test(what, () => {
        const args = { ...good, ...changes };
        return expectRejected(() => backend.partialAttention(args), ArgumentError, message, [good.out, good.lse]);
      });
    }
  });

  describe(`partialAttention over shards merges to the whole on ${backend.name}`, () => {
    for (const row of SHARDED) {
      for (const { count, interleave, weights } of DEALS) {
        const dealt = `W${count} I${interleave}${weights === undefined ? "" : ` weights ${weights.join(", ")}`}`;
        const name = `${row.window === undefined ? "decode" : "several queries, window"}, ${dealt}`;
        test(
          name,
          async () => {
            const arena = new Arena(heap, 8 << 20);
            const whole = buildAttention(arena, row, new Random(77));
            await backend.partialAttention(whole);
            const states: HeapPartialAttentionArgs[] = [];
            for (let index = 0; index < count; index++) {
              const shard = { index, count, interleave, ...(weights === undefined ? {} : { weights }) };
              // A shard that stores nothing has no blocks, of whatever size.
              const blockSize = kvBlockSize(shard, row.blockSize) || row.blockSize;
              const part = buildAttention(arena, { ...row, shard, blockSize }, new Random(0));
              copyShard(whole, part, row);
              await backend.partialAttention(part);
              states.push(part);
            }
            const out = Tensor.empty(arena, "f32", whole.out.shape);
            const lse = Tensor.empty(arena, "f32", whole.lse.shape);
            const outs = states.map((state) => state.out);
            await backend.mergeAttnStates({ outs, lses: states.map((state) => state.lse), out, lse });
            expectClose("out", out, whole.out, F32_TOLERANCE);
            expectClose("lse", lse, whole.lse, F32_TOLERANCE);
            arena.close();
          },
          TEST_TIMEOUT_MS,
        );
      }
    }
  });

  test(
    `every 8-bit pattern stands for its number on ${backend.name}`,
    async () => {
      const arena = new Arena(heap, 1 << 20);
      for (const dtype of ["f8e4m3", "i8"] as const) {
        // One key, whose value is the result: every pattern, in every place of a vector.
        const keyCache = Tensor.zeros(arena, dtype, [1, 1, 1, 16]);
        const valueCache = Tensor.empty(arena, dtype, [1, 1, 1, 256]);
        for (let bits = 0; bits < 256; bits++) valueCache.elements[bits] = (bits * 5) & 0xff;
        const out = Tensor.empty(arena, "f32", [1, 1, 256]);
        await backend.partialAttention({
          query: Tensor.zeros(arena, "f32", [1, 1, 16]),
          keyCache,
          valueCache,
          keyScale: [1],
          valueScale: [2],
          blockTable: Tensor.from(arena, "i32", [1, 1], [0]),
          sequences: [0],
          positions: [0],
          out,
          lse: Tensor.empty(arena, "f32", [1, 1]),
        });
        const expected = [...valueCache.toNumbers()].map((number) => 2 * number);
        const got = [...out.toNumbers()];
        // GPUs do not promise NaN.
        const isKept = (number: number): boolean => backend.name !== "webgpu" || !Number.isNaN(number);
        expect(got.filter((_, at) => isKept(expected[at] ?? 0)).map((number) => number + 0)).toEqual(
          expected.filter(isKept).map((number) => number + 0),
        );
      }
      arena.close();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    `partialAttention over segments of a context merges to the whole on ${backend.name}`,
    async () => {
      const arena = new Arena(heap, 8 << 20);
      for (const window of [undefined, 9]) {
        const row: AttentionRow = { lengths: [33, 20], queries: [5, 3], heads: [4, 2], keyDim: 16, blockSize: 8 };
        const whole = buildAttention(arena, { ...row, ...(window === undefined ? {} : { window }) }, new Random(78));
        await backend.partialAttention(whole);
        const states: HeapPartialAttentionArgs[] = [];
        // Blocks of 8: segments begin at blocks, so that the whole cache serves as the workspace of each.
        for (const [first, count] of [
          [0, 8],
          [8, 16],
          [24, 9],
        ] as const) {
          const blockTable = Tensor.from(arena, "i32", [2, 2], [0, 0, 0, 0]);
          for (const sequence of [0, 1]) {
            for (const column of [0, 1]) {
              const block =
                first / 8 + column < whole.blockTable.dim(1) ? whole.blockTable.at(sequence, first / 8 + column) : 0;
              blockTable.i32[sequence * 2 + column] = Math.max(0, block);
            }
          }
          const segments = [33, 20].map((length) => ({ first, count: Math.max(0, Math.min(count, length - first)) }));
          const out = Tensor.empty(arena, "f32", whole.out.shape).fill(Number.NaN);
          const lse = Tensor.empty(arena, "f32", whole.lse.shape).fill(Number.NaN);
          const part = { ...whole, blockTable, segments, out, lse };
          await backend.partialAttention(part);
          states.push(part);
        }
        const out = Tensor.empty(arena, "f32", whole.out.shape);
        const lse = Tensor.empty(arena, "f32", whole.lse.shape);
        const outs = states.map((state) => state.out);
        await backend.mergeAttnStates({ outs, lses: states.map((state) => state.lse), out, lse });
        expectClose("out", out, whole.out, F32_TOLERANCE);
        expectClose("lse", lse, whole.lse, F32_TOLERANCE);
        arena.reset();
      }
      arena.close();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    `partialAttention gives the same bits every time on ${backend.name}`,
    async () => {
      const arena = new Arena(heap, 8 << 20);
      const row: AttentionRow = { lengths: [300, 41], queries: [1, 9], heads: [4, 2], keyDim: 16, blockSize: 16 };
      const args = buildAttention(arena, row, new Random(5));
      await backend.partialAttention(args);
      const first = args.out.clone(arena);
      for (let run = 0; run < 3; run++) {
        args.out.fill(Number.NaN);
        await backend.partialAttention(args);
        expectSameBits("out", args.out, first);
      }
      arena.close();
    },
    TEST_TIMEOUT_MS,
  );
}

/** Copies queries, and the keys and values that a shard holds, from an unsharded case; the rest stays NaN. */
function copyShard(whole: HeapPartialAttentionArgs, part: HeapPartialAttentionArgs, row: AttentionRow): void {
  const { index, count, interleave, weights } = part.shard ?? UNSHARDED;
  part.query.copyFrom(whole.query);
  for (const [sequence, length] of row.lengths.entries()) {
    let local = 0;
    for (let position = 0; position < length; position++) {
      if (kvOwner(position, count, interleave, weights) !== index) continue;
      const at = (args: HeapPartialAttentionArgs, cache: Tensor, token: number): Tensor | undefined => {
        const blockSize = cache.dim(1);
        const block = args.blockTable.at(sequence, Math.floor(token / blockSize));
        return block < 0 ? undefined : cache.select(0, block).select(0, token % blockSize);
      };
      for (const cache of ["keyCache", "valueCache"] as const) {
        const source = at(whole, whole[cache], position);
        if (source !== undefined) at(part, part[cache], local)?.copyFrom(source);
      }
      local++;
    }
  }
}
