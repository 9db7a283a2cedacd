// The law of rows' bits (see row-bits.test.ts) on a GPU that was asked for it. A GPU compiles kernels for every head dim,
// dtype and block size, so that there are a few of these, and random batches of each.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, ArgumentError, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { webgpuBackendOn } from "../../backends/webgpu-backend.ts";
import { openGpuDevice } from "../../device/gpu-device.ts";
import type { Operand } from "../../operand.ts";
import { expectClose, expectSameBits, F32_TOLERANCE, HALF_INPUT_TOLERANCE } from "../../testing/close.ts";
import { Random } from "../../testing/random.ts";
import { type AttentionRow, buildAttention, type HeapPartialAttentionArgs } from "./cases.ts";
import { partialAttentionReference } from "./reference.ts";
import { contextPart, rowAlone } from "../../testing/attention-rows.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(96 << 20);
const adapter = process.env.LOCKSTEP_TEST_ADAPTER === "hardware" ? "hardware" : "software";
const gpu = await openGpuDevice({ adapter, batchInvariant: true });
const backend = webgpuBackendOn(heap, gpu);
/** Folds a split or two at a time. */
const frugal = webgpuBackendOn(heap, { ...gpu, splitBytes: 4096, release: async () => undefined });
afterAll(async () => {
  await frugal.close();
  await backend.close();
});

interface Config extends Pick<AttentionRow, "dtype" | "queryDType" | "softcap" | "rowScales"> {
  readonly dtype: DType;
  readonly dims: readonly [key: number, value: number];
  readonly group: number;
  readonly hasSinks: boolean;
}

const CONFIGS: readonly Config[] = [
  { dtype: "f32", dims: [8, 8], group: 1, hasSinks: true },
  { dtype: "f16", dims: [32, 16], group: 5, hasSinks: false, queryDType: "f16" },
  { dtype: "bf16", dims: [7, 5], group: 3, hasSinks: false, softcap: 5 },
  { dtype: "i8", dims: [16, 16], group: 2, hasSinks: true, rowScales: true },
  { dtype: "f8e4m3", dims: [32, 32], group: 4, hasSinks: false },
];
const INTERLEAVES_OF_12 = [1, 2, 3, 4] as const;

/** Up to three splits, whole and not; keys of one token, of few and of many. */
const sequence = fc.tuple(
  fc.oneof(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 200, max: 600 }), fc.constantFrom(256, 257, 512)),
  fc.oneof(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 3, max: 9 })),
);

/** Batches of a config. */
function batches({ dims, group, hasSinks, ...config }: Config): fc.Arbitrary<AttentionRow> {
  return fc
    .record({
      sequences: fc.array(sequence, { minLength: 1, maxLength: 3 }),
      kvHeads: fc.integer({ min: 1, max: 2 }),
      interleave: fc.constantFrom(...INTERLEAVES_OF_12),
      shards: fc.integer({ min: 1, max: 2 }),
      window: fc.option(fc.integer({ min: 1, max: 400 }), { nil: undefined }),
      shuffled: fc.boolean(),
      padding: fc.boolean(),
      seed: fc.nat(),
    })
    .map(({ sequences, kvHeads, interleave, shards, window, seed, ...rest }) => {
      const random = new Random(seed);
      return {
        ...config,
        ...rest,
        lengths: sequences.map(([length]) => length),
        queries: sequences.map(([length, queries]) => Math.min(length, queries)),
        heads: [group * kvHeads, kvHeads],
        keyDim: dims[0],
        valueDim: dims[1],
        blockSize: 12,
        shard: { index: random.integer(shards), count: shards, interleave },
        ...(window === undefined ? {} : { window }),
        ...(hasSinks ? { sinks: Array.from(random.normals(group * kvHeads)) } : {}),
      };
    });
}

/** A copy of a cache on the GPU, every row an element further from the last than it is long: no row is aligned. */
function apart(arena: Arena, cache: Tensor): Operand {
  const [blocks = 0, blockSize = 0, kvHeads = 0, dim = 0] = cache.shape;
  const wide = Tensor.empty(arena, cache.dtype, [blocks, blockSize, kvHeads, dim + 1]).fill(1);
  wide.slice(3, 1, dim + 1).copyFrom(cache);
  const onGpu = backend.empty(cache.dtype, wide.shape);
  void backend.upload(wide, onGpu);
  return onGpu.slice(3, 1, dim + 1);
}

function expectSameResults(actual: HeapPartialAttentionArgs, expected: { out: Tensor; lse: Tensor }): void {
  expectSameBits("out", actual.out, expected.out);
  expectSameBits("lse", actual.lse, expected.lse);
}

/** The same arguments with results of their own. */
function again(arena: Arena, args: HeapPartialAttentionArgs): HeapPartialAttentionArgs {
  const fresh = (tensor: Tensor): Tensor => Tensor.empty(arena, "f32", tensor.shape).fill(Number.NaN);
  return { ...args, out: fresh(args.out), lse: fresh(args.lse) };
}

async function withArena(run: (arena: Arena) => Promise<void>): Promise<void> {
  const arena = new Arena(heap, 40 << 20);
  try {
    await run(arena);
  } finally {
    arena.close();
  }
}

describe.each(CONFIGS.map((config) => [config.dtype, config] as const))(
  "batch-invariant attention over %s",
  (_, config) => {
    test("is right, and gives a row the same bits alone as in any batch", async () => {
      let compared = 0;
      await fc.assert(
        fc.asyncProperty(batches(config), fc.nat(), (row, seed) =>
          withArena(async (arena) => {
            const random = new Random(seed);
            const args = buildAttention(arena, row, random);
            await backend.partialAttention(args);
            const reference = again(arena, args);
            partialAttentionReference(reference);
            const tolerance = config.dtype === "f32" ? F32_TOLERANCE : HALF_INPUT_TOLERANCE;
            expectClose("out", args.out, reference.out, tolerance);
            expectClose("lse", args.lse, reference.lse, tolerance);
            const [tokens = 0, heads = 0] = args.query.shape;
            for (let trial = 0; trial < Math.min(3, tokens); trial++) {
              const token = random.integer(tokens);
              const from = random.integer(heads);
              const to = from + 1 + random.integer(heads - from);
              const { interleave = 1 } = args.shard ?? {};
              const one = rowAlone(arena, args, token, [from, to], random, 24 / interleave);
              const [keyCache, valueCache] = [one.keyCache, one.valueCache].map((cache) =>
                trial === 0 ? apart(arena, cache) : cache,
              );
              await backend.partialAttention({ ...one, ...(keyCache && valueCache && { keyCache, valueCache }) });
              const own = (tensor: Tensor): Tensor => tensor.slice(0, token, token + 1).slice(1, from, to);
              expectSameResults(one, { out: own(args.out), lse: own(args.lse) });
              compared++;
            }
          }),
        ),
        { numRuns: 4 },
      );
      expect(compared).toBeGreaterThan(3);
    });

    test("gives the same bits in calls over parts of a context, and with less memory", async () => {
      await fc.assert(
        fc.asyncProperty(batches(config), fc.nat(), (row, seed) =>
          withArena(async (arena) => {
            const random = new Random(seed);
            const args = buildAttention(arena, row, random);
            await backend.partialAttention(args);
            const slowly = again(arena, args);
            await frugal.partialAttention(slowly);
            expectSameResults(slowly, args);
            const [tokens = 0, heads = 0] = args.query.shape;
            const { keyDim, valueDim = keyDim } = row;
            const shape = [tokens, heads, backend.sumsWidth(valueDim) ?? 0];
            const state = random.integer(2) === 0 ? backend.empty("f32", shape) : Tensor.empty(arena, "f32", shape);
            const border = backend.sumsBorder(keyDim, valueDim);
            const length = args.blockTable.dim(1) * row.blockSize;
            const inParts = again(arena, args);
            for (let first = 0; first < length; ) {
              const end = first + border * (1 + random.integer(2));
              const sums = { state, isFirst: first === 0, isLast: end >= length };
              const on = random.integer(2) === 0 || state.place === "device" ? backend : frugal;
              // Blocks of a border, so that few kernels are compiled.
              await on.partialAttention({ ...inParts, ...contextPart(arena, args, first, end, 2 * border), sums });
              first = end;
            }
            expectSameResults(inParts, args);
          }),
        ),
        { numRuns: 2 },
      );
    });
  },
);

test("sums that a GPU cannot keep are refused before anything is written", () => {
  const arena = new Arena(heap, 4 << 20);
  const row: AttentionRow = { lengths: [5], heads: [2, 1], keyDim: 8, blockSize: 4 };
  const args = buildAttention(arena, row, new Random(1));
  const sums = (width: number) => {
    const state = Tensor.empty(arena, "f32", [1, 2, width]);
    return { state, isFirst: true, isLast: true };
  };
  expect(() => backend.partialAttention({ ...args, sums: sums(9) })).toThrow(/10 wide, the backend's sumsWidth/);
  const wide = sums(10);
  const views = { out: wide.state.slice(2, 0, 8).slice(1, 0, 2), lse: wide.state.select(2, 8) };
  expect(() => backend.partialAttention({ ...args, ...views, sums: wide })).toThrow(ArgumentError);
  arena.close();
});
