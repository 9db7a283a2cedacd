// World-invariant attention as a whole: the same sums and results, bit for bit, however a context is dealt to ranks, cut
// into chunks, paged and batched; and as close to float64 as partialAttention.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import type { KernelBackend } from "../../backends/backend.ts";
import { openBackend } from "../../backends/open-backend.ts";
import { kvBlockSize, kvOwner, UNSHARDED } from "../../kv/kv-ownership.ts";
import { contextPart } from "../../testing/attention-rows.ts";
import { expectClose, expectSameBits, F32_TOLERANCE, HALF_INPUT_TOLERANCE } from "../../testing/close.ts";
import { Random } from "../../testing/random.ts";
import { attentionInputs } from "../attention-bounds/cases.ts";
import {
  ATTENTION_ROWS,
  type AttentionRow,
  buildAttention,
  describeRow,
  type HeapPartialAttentionArgs,
} from "../partial-attention/cases.ts";
import { partialAttentionReference } from "../partial-attention/reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(128 << 20);
const backends = [await openBackend("reference", { heap }), await openBackend("wasm", { heap })];
afterAll(() => Promise.all(backends.map((backend) => backend.close())));

type Part = Omit<HeapPartialAttentionArgs, "out" | "lse">;

interface Results {
  readonly sums: Tensor;
  readonly out: Tensor;
  readonly lse: Tensor;
}

/** Ranks' bounds and sums, each over its chunks one after another, joined in the order of `ranks`. */
function attend(backend: KernelBackend, arena: Arena, ranks: readonly (readonly Part[])[], keeps: boolean): Results {
  const [first] = ranks.flat();
  if (first === undefined) throw new Error("no ranks");
  const [tokens = 0, heads = 0] = first.query.shape;
  const valueDim = first.valueCache.dim(3);
  const bounds = Tensor.empty(arena, "f32", [3, tokens, heads]).fill(Number.NEGATIVE_INFINITY);
  const sums = Tensor.zeros(arena, "i32", [tokens, heads, valueDim + 1, 2]);
  const kept = new Map<Part, Tensor>();
  for (const chunks of ranks) {
    const own = Tensor.empty(arena, "f32", bounds.shape).fill(Number.NaN);
    for (const [index, chunk] of chunks.entries()) {
      const scores = Tensor.empty(arena, "f32", [tokens, heads, 512]).fill(Number.NaN);
      if (keeps) kept.set(chunk, scores);
      backend.attentionBounds({ ...chunk, bounds: own, continues: index > 0, ...(keeps ? { scores } : {}) });
    }
    for (let at = 0; at < bounds.size; at++) bounds.f32[at] = Math.max(bounds.f32[at] ?? 0, own.f32[at] ?? 0);
  }
  for (const chunks of ranks) {
    const own = Tensor.empty(arena, "i32", sums.shape).fill(-1);
    for (const [index, chunk] of chunks.entries()) {
      const scores = kept.get(chunk);
      const optional = scores === undefined ? {} : { scores };
      backend.latticeSums({ ...chunk, bounds, sums: own, continues: index > 0, ...optional });
    }
    for (let at = 0; at < sums.size; at++) sums.i32[at] = (sums.i32[at] ?? 0) + (own.i32[at] ?? 0);
  }
  const out = Tensor.empty(arena, "f32", [tokens, heads, valueDim]).fill(Number.NaN);
  const lse = Tensor.empty(arena, "f32", [tokens, heads]).fill(Number.NaN);
  backend.finishLattice({ bounds, sums, out, lse });
  return { sums: joined(arena, sums), out, lse };
}

/** Sums of ranks' lower words carried over into the upper ones: the same integers have the same words. */
function joined(arena: Arena, sums: Tensor): Tensor {
  const whole = sums.clone(arena);
  for (let at = 0; at < whole.size; at += 2) {
    const low = whole.i32[at] ?? 0;
    const isMarked = Math.abs(whole.i32[at + 1] ?? 0) > 2 ** 25;
    whole.i32.set(isMarked ? [0, 2 ** 26] : [low % 2 ** 26, (whole.i32[at + 1] ?? 0) + Math.floor(low / 2 ** 26)], at);
  }
  return whole;
}

for (const backend of backends) {
  describe(`world-invariant attention on ${backend.name} is as close to float64 as partialAttention`, () => {
    for (const [index, row] of ATTENTION_ROWS.entries()) {
      test(describeRow(row), () => {
        const arena = new Arena(heap, 24 << 20);
        const args = buildAttention(arena, row, new Random(5000 + index));
        partialAttentionReference(args);
        const { out, lse } = attend(backend, arena, [[attentionInputs(args)]], false);
        const isHalf = [row.dtype, row.queryDType].some((dtype) => dtype === "f16" || dtype === "bf16");
        expectClose("out", out, args.out, isHalf ? HALF_INPUT_TOLERANCE : F32_TOLERANCE);
        expectClose("lse", lse, args.lse, isHalf ? HALF_INPUT_TOLERANCE : F32_TOLERANCE);
        arena.close();
      });
    }
  });
}

/** The whole context as one rank stores it, and as it is dealt to several. */
function dealt(arena: Arena, whole: HeapPartialAttentionArgs, row: AttentionRow, world: World): Part[] {
  return world.order.map((index) => {
    const { count, interleave, weights, blocks, seed } = world;
    const shard = { index, count, interleave, ...(weights === undefined ? {} : { weights }) };
    const blockSize = kvBlockSize(shard, interleave * blocks) || interleave;
    const part = buildAttention(arena, { ...row, shard, blockSize }, new Random(seed + index));
    copyShard(whole, part, row);
    const { keyScale, valueScale } = whole;
    const scales = keyScale === undefined || valueScale === undefined ? {} : { keyScale, valueScale };
    const { sinks, ...rest } = attentionInputs(part);
    // Of all shards one is given the sinks.
    return { ...rest, ...scales, ...(sinks === undefined || index !== seed % count ? {} : { sinks }) };
  });
}

/** Copies queries, and what a shard stores, from an unsharded case; all else stays what is never to be read. */
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
      for (const name of ["keyCache", "valueCache", "keyScaleCache", "valueScaleCache"] as const) {
        const [from, to] = [whole[name], part[name]];
        if (!(from instanceof Tensor && to instanceof Tensor)) continue;
        const source = at(whole, from, position);
        if (source !== undefined) at(part, to, local)?.copyFrom(source);
      }
      local++;
    }
  }
}

/** Some query tokens of a batch, as a batch of their own. */
function tokensOf(arena: Arena, whole: HeapPartialAttentionArgs, tokens: readonly number[]): Part {
  return {
    ...attentionInputs(whole),
    query: rowsOf(arena, whole.query, tokens),
    sequences: tokens.map((token) => whole.sequences[token] ?? 0),
    positions: tokens.map((token) => whole.positions[token] ?? -1),
  };
}

function rowsOf(arena: Arena, whole: Tensor, tokens: readonly number[]): Tensor {
  const rows = Tensor.empty(arena, whole.dtype, [tokens.length, ...whole.shape.slice(1)]);
  for (const [at, token] of tokens.entries()) rows.select(0, at).copyFrom(whole.select(0, token));
  return rows;
}

/** The query tokens of each sequence. */
function bySequence({ sequences }: HeapPartialAttentionArgs): number[][] {
  const all = Array.from(sequences);
  return [...new Set(all)].map((sequence) => [...all.keys()].filter((token) => all[token] === sequence));
}

interface World {
  readonly count: number;
  readonly order: readonly number[];
  readonly interleave: number;
  readonly blocks: number;
  readonly weights: readonly number[] | undefined;
  readonly seed: number;
}

const WORLDS: fc.Arbitrary<World> = fc
  .record({
    count: fc.integer({ min: 1, max: 8 }),
    interleave: fc.constantFrom(1, 2, 3, 4, 16),
    blocks: fc.integer({ min: 1, max: 5 }),
    weighted: fc.boolean(),
    seed: fc.nat({ max: 1e6 }),
  })
  .map(({ count, interleave, blocks, weighted, seed }) => {
    const random = new Random(seed);
    const weights = Array.from({ length: count }, (_, index) => (index === 0 ? 1 : 0) + random.integer(4));
    return {
      count,
      order: random.permutation(count),
      interleave,
      blocks,
      weights: weighted ? weights : undefined,
      seed,
    };
  });

const DTYPES: readonly DType[] = ["f32", "f16", "bf16", "f8e4m3", "i8"];
const SHAPES: readonly Omit<AttentionRow, "lengths" | "blockSize">[] = [
  { heads: [8, 2], keyDim: 16 },
  { heads: [8, 2], keyDim: 16, queries: [7, 2, 1], window: 21, sinks: [1, 2, -1, 0, 3, -9, 0.5, 0.25] },
  { heads: [3, 3], keyDim: 5, valueDim: 7, queries: [3, 1, 4], softcap: 2 },
  { heads: [5, 1], keyDim: 24, valueDim: 16, mla: true, queries: [2, 3, 1] },
  { heads: [6, 2], keyDim: 8, queries: [9, 4, 1], rowScales: true, dtype: "i8" },
];

for (const backend of backends) {
  const runs = backend.name === "wasm" ? 60 : 8;
  test(`sums and results have the same bits for any ranks, pages, interleaves and chunks on ${backend.name}`, () => {
    const arena = new Arena(heap, 48 << 20);
    const shape = fc.constantFrom(...SHAPES);
    const lengths = fc.tuple(fc.integer({ min: 9, max: 150 }), fc.integer({ min: 4, max: 60 }), fc.constant(4));
    fc.assert(
      fc.property(
        shape,
        fc.constantFrom(...DTYPES),
        lengths,
        WORLDS,
        fc.nat({ max: 1e6 }),
        fc.boolean(),
        (given, dtype, of, world, seed, keeps) => {
          arena.reset();
          const random = new Random(seed);
          // Some sequences decode, some are in the middle of a prefill.
          const queries = of.map((length) => (random.integer(2) === 0 ? 1 : 1 + random.integer(Math.min(length, 12))));
          const row: AttentionRow = { dtype, ...given, lengths: of, queries, blockSize: 16 };
          const whole = buildAttention(arena, row, random);
          // Scores over many powers of two, and some that are equal.
          if (random.integer(3) === 0) whole.query.set(whole.query.toNumbers().map((x) => 8 * x));
          if (random.integer(3) === 0) whole.query.fill(0);
          // A value that is not finite, where there is one.
          if (random.integer(3) === 0 && dtype !== "i8" && row.dtype !== "i8") {
            const last = of[0] - 1;
            whole.valueCache
              .select(0, whole.blockTable.at(0, last >> 4))
              .select(0, last % 16)
              .fill(Number.POSITIVE_INFINITY);
          }
          const alone = attend(backend, arena, [[attentionInputs(whole)]], false);
          const ranks = dealt(arena, whole, row, world).map((part) => [part]);
          const cut = 1 + random.integer(Math.max(...of));
          const chunks = [0, cut].map((from, index) => ({
            ...attentionInputs(whole),
            ...contextPart(arena, whole, from, index === 0 ? cut : 160),
          }));
          for (const other of [attend(backend, arena, ranks, keeps), attend(backend, arena, [chunks], keeps)]) {
            expectSameBits("sums", other.sums, alone.sums);
            expectSameBits("out", other.out, alone.out);
            expectSameBits("lse", other.lse, alone.lse);
          }
          // The same tokens in other batches: each sequence by itself, or any of them in any order.
          const tokens = random.permutation(whole.query.dim(0));
          const batches = random.integer(2) === 0 ? bySequence(whole) : [tokens.splice(0, cut), tokens];
          for (const batch of batches.filter((some) => some.length > 0)) {
            const part = attend(backend, arena, [[tokensOf(arena, whole, batch)]], keeps);
            for (const name of ["sums", "out", "lse"] as const) {
              expectSameBits(name, part[name], rowsOf(arena, alone[name], batch));
            }
          }
        },
      ),
      { numRuns: runs, seed: 17, includeErrorInReport: true },
    );
    arena.close();
  });

  test(`what is not finite is seen by every rank on ${backend.name}`, () => {
    const arena = new Arena(heap, 16 << 20);
    const row: AttentionRow = { lengths: [40], heads: [4, 2], keyDim: 16, blockSize: 16 };
    const world: World = { count: 4, order: [2, 0, 3, 1], interleave: 2, blocks: 2, weights: undefined, seed: 3 };
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const whole = buildAttention(arena, row, new Random(4));
      const place = (cache: Tensor): Tensor =>
        cache.select(0, whole.blockTable.at(0, 1)).select(0, 3).select(0, 1).slice(0, 5, 6);
      place(whole.valueCache).fill(bad);
      const value = attend(
        backend,
        arena,
        dealt(arena, whole, row, world).map((part) => [part]),
        false,
      );
      for (let head = 0; head < 4; head++) {
        for (let column = 0; column < 16; column++) {
          expect(Number.isFinite(value.out.at(0, head, column))).toBe(!(head >= 2 && column === 5));
        }
        expect(Number.isFinite(value.lse.at(0, head))).toBe(true);
      }
      place(whole.keyCache).fill(bad);
      const key = attend(
        backend,
        arena,
        dealt(arena, whole, row, world).map((part) => [part]),
        false,
      );
      for (let head = 0; head < 4; head++) {
        expect(Number.isNaN(key.lse.at(0, head))).toBe(head >= 2);
        expect(Number.isNaN(key.out.at(0, head, 0))).toBe(head >= 2);
      }
      arena.reset();
    }
    arena.close();
  });
}
