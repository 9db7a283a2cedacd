// The parameters that vLLM, FlashInfer and TensorRT-LLM test with (docs/attention-features.md lists them): every value
// occurs, on wasm, held to float64. The case tables of the ops hold all backends to fewer and odder values.
import { afterAll, describe, expect, test } from "bun:test";
import { Arena, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import { openBackend } from "./backends/open-backend.ts";
import { correctAttnOutReference } from "./ops/correct-attn-out/reference.ts";
import { mergeAttnStatesReference } from "./ops/merge-attn-states/reference.ts";
import { type AttentionRow, buildAttention } from "./ops/partial-attention/cases.ts";
import { partialAttentionReference } from "./ops/partial-attention/reference.ts";
import { expectClose, expectSameBits, type Tolerance } from "./testing/close.ts";
import { Random } from "./testing/random.ts";

const heap = SharedHeap.create(512 << 20);
const wasm = await openBackend("wasm", { heap });
afterAll(() => wasm.close());

const LSE_TOLERANCE: Tolerance = { absolute: 1e-5, relative: 1e-5 };
const { NEGATIVE_INFINITY, POSITIVE_INFINITY, NaN: nan } = Number;

/** Runs `body` with an arena whose memory goes back to the heap. */
async function withArena(bytes: number, body: (arena: Arena) => Promise<void>): Promise<void> {
  const arena = new Arena(heap, bytes);
  try {
    await body(arena);
  } finally {
    arena.close();
  }
}

describe("combine: each situation over 1 to 8 ranks, in both bases", () => {
  const situations: Readonly<Record<string, (rank: number, row: number) => number>> = {
    "random LSEs": (rank, row) => Math.sin(7 * rank + row) * 3,
    "equal LSEs": () => 1.5,
    "one rank dominant": (rank) => (rank === 0 ? 0 : -100),
    "an empty rank with NaN": (rank) => (rank === 0 ? nan : 0.5 * rank),
    "globally empty": () => NEGATIVE_INFINITY,
  };
  test.each(Object.entries(situations))("%s", async (_, lseOf) => {
    for (let ranks = 1; ranks <= 8; ranks++) {
      for (const base of ["e", "2"] as const) {
        for (const dtype of ["f32", "bf16"] as const) {
          await withArena(1 << 20, async (arena) => {
            const [batch, heads, dim] = [4, 3, 40];
            const rows = batch * heads;
            const lses = Tensor.from(
              arena,
              "f32",
              [ranks, batch, heads],
              Array.from({ length: ranks * rows }, (_entry, at) => lseOf(Math.floor(at / rows), at % rows)),
            );
            const values = new Random(ranks).normals(rows * dim);
            for (let rank = 0; rank < ranks; rank++) {
              const isEmpty = !Number.isFinite(lses.at(rank, 0, 0));
              const partialOut = Tensor.from(
                arena,
                dtype,
                [batch, heads, dim],
                isEmpty ? values.map(() => nan) : values,
              );
              const [got, wanted] = [0, 1].map(() => ({
                out: Tensor.empty(arena, dtype, [batch, heads, dim]).fill(nan),
                lse: Tensor.empty(arena, "f32", [batch, heads]).fill(nan),
              }));
              if (got === undefined || wanted === undefined) return;
              await wasm.correctAttnOut({ partialOut, lses, rank, base, ...got });
              correctAttnOutReference({ partialOut, lses, rank, base, ...wanted });
              expectClose("lse", got.lse, wanted.lse, LSE_TOLERANCE);
              expectClose("out", got.out, wanted.out, LSE_TOLERANCE);
              if (isEmpty) expect(got.out.toNumbers().every((value) => value === 0)).toBe(true);
            }
          });
        }
      }
    }
  });
});

test.each([32, 64, 128, 192, 576])("head dim %d, B4 H8 N2, both bases", async (dim) => {
  for (const base of ["e", "2"] as const) {
    await withArena(1 << 20, async (arena) => {
      const random = new Random(dim);
      const partialOut = Tensor.from(arena, "f32", [4, 8, dim], random.normals(32 * dim));
      const lses = Tensor.from(arena, "f32", [2, 4, 8], random.normals(64));
      const make = () => ({
        out: Tensor.empty(arena, "f32", [4, 8, dim]),
        lse: Tensor.empty(arena, "f32", [4, 8]),
      });
      const [got, wanted] = [make(), make()];
      await wasm.correctAttnOut({ partialOut, lses, rank: 1, base, ...got });
      correctAttnOutReference({ partialOut, lses, rank: 1, base, ...wanted });
      expectClose("out", got.out, wanted.out, LSE_TOLERANCE);
      expectClose("lse", got.lse, wanted.lse, LSE_TOLERANCE);
    });
  }
});

describe("merge of two states, a tenth of the LSEs +inf", () => {
  const dims = [32, 48, 64, 96, 128, 256];
  const heads = [4, 8, 16, 32, 64];
  const rows = [256, 512, 613, 1024, 4096].flatMap((tokens, index) => [
    [tokens, 4, dims[index] ?? 0, "f32"] as const,
    [Math.min(tokens, 256), heads[index] ?? 0, dims[5 - index] ?? 0, "bf16"] as const,
  ]);
  test.each([...rows, [256, 4, 32, "f16"] as const])(
    "tokens %d, heads %d, D %d, %s",
    async (tokens, count, dim, dtype) => {
      const elements = tokens * count * dim;
      await withArena(elements * 16 + (2 << 20), async (arena) => {
        const random = new Random(tokens + dim);
        const shape = [tokens, count, dim];
        const outs = [0, 1].map(() => Tensor.from(arena, dtype as DType, shape, random.normals(elements)));
        const lses = [0, 1].map(() => {
          const values = random
            .normals(tokens * count)
            .map((x) => (random.integer(10) === 0 ? POSITIVE_INFINITY : 3 * x));
          return Tensor.from(arena, "f32", [tokens, count], values);
        });
        const make = () => ({
          out: Tensor.empty(arena, dtype as DType, shape),
          lse: Tensor.empty(arena, "f32", [tokens, count]),
        });
        const [got, wanted] = [make(), make()];
        await wasm.mergeAttnStates({ outs, lses, ...got });
        mergeAttnStatesReference({ outs, lses, ...wanted });
        expectClose("out", got.out, wanted.out, LSE_TOLERANCE);
        expectClose("lse", got.lse, wanted.lse, LSE_TOLERANCE);
      });
    },
  );
});

describe("pack and unpack: a bit-exact round trip, every padding row", () => {
  const lists = [[3, 3], [2, 4, 4], [5, 5, 5, 5], [7, 5, 3], [1, 1, 1], [12]];
  test.each(lists.map((lengths) => [lengths] as const))("lengths %p of 20 rows", async (lengths) => {
    for (const padValue of [-100, -1, 0, 0.5, 100, NEGATIVE_INFINITY]) {
      await withArena(1 << 20, async (arena) => {
        const x = Tensor.from(arena, "f32", [20, 3, 5], new Random(9).normals(300));
        const total = lengths.reduce((sum, length) => sum + length, 0);
        const longest = Math.max(...lengths);
        const packed = Tensor.empty(arena, "f32", [lengths.length, longest, 3, 5]).fill(nan);
        const out = Tensor.empty(arena, "f32", [total, 3, 5]).fill(nan);
        await wasm.packSeq({ x, lengths, padValue, out: packed });
        await wasm.unpackSeq({ packed, lengths, out });
        expectSameBits("round trip", out, x.slice(0, 0, total));
        for (const [sequence, length] of lengths.entries()) {
          const padding = packed.select(0, sequence).slice(0, length, longest);
          expect(padding.toNumbers().every((value) => value === padValue)).toBe(true);
        }
      });
    }
  });
});

describe("paged decode: every batch size, length, page size, head dim and group, unused pages poisoned", () => {
  const lengthsOf = (batch: number, kv: number): number[] =>
    Array.from({ length: batch }, (_, index) => Math.max(1, kv - (index % 3) * Math.floor(kv / 3)));
  // [batch, kv length, page size, head dim, query heads per KV head]
  const rows = [
    [1, 16384, 64, 64, 8],
    [3, 2048, 16, 128, 4],
    [12, 1024, 8, 40, 1],
    [17, 512, 16, 80, 16],
    [32, 113, 1, 96, 4],
    [75, 97, 16, 112, 1],
    [128, 54, 64, 256, 4],
    [128, 1, 8, 576, 16],
    [3, 54, 1, 192, 16],
  ] as const;
  test.each(rows)("batch %d, kv %d, page %d, D %d, GQA %d", async (batch, kv, blockSize, keyDim, group) => {
    for (const dtype of batch * kv * keyDim > 1 << 20 ? (["f16"] as const) : (["f16", "f32"] as const)) {
      const kvHeads = keyDim === 576 ? 1 : 2;
      const row: AttentionRow = {
        lengths: lengthsOf(batch, kv),
        heads: [group * kvHeads, kvHeads],
        keyDim,
        blockSize,
        dtype,
      };
      await withArena(160 << 20, async (arena) => {
        const args = buildAttention(arena, row, new Random(kv));
        const expected = { out: args.out.clone(arena), lse: args.lse.clone(arena) };
        partialAttentionReference({ ...args, ...expected });
        await wasm.partialAttention(args);
        expectClose("lse", args.lse, expected.lse, LSE_TOLERANCE);
        const [got, wanted] = [args.out.toNumbers(), expected.out.toNumbers()];
        let [error, power] = [0, 0];
        for (const [index, want] of wanted.entries()) {
          error += ((got[index] ?? nan) - want) ** 2;
          power += want ** 2;
        }
        // NMSE at most 5e-4 is what the others ask.
        expect(error / power).toBeLessThan(1e-9);
      });
    }
  });
});
