import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { expectRejected, TEST_TIMEOUT_MS, testCases } from "../../testing/op-case.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import { CORRECT_ATTN_OUT_CASES } from "./cases.ts";
import type { CorrectAttnOutArgs } from "./index.ts";
import { correctAttnOutReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = await openTestBackends(heap);

testCases(heap, backends, {
  name: "correctAttnOut",
  cases: CORRECT_ATTN_OUT_CASES,
  outputs: (args) => [
    ["out", args.out],
    ["lse", args.lse],
  ],
  reference: correctAttnOutReference,
  run: (backend, args) => backend.correctAttnOut(args),
});

test("the reference computes what can be worked out by hand", () => {
  const out = Tensor.from(heap, "f32", [1, 1, 2], [8, -4]);
  const lses = Tensor.from(heap, "f32", [3, 1, 1], [3, 3, 4]);
  const lse = Tensor.empty(heap, "f32", [1, 1]);
  correctAttnOutReference({ partialOut: out, lses, rank: 0, base: "2", out, lse });
  // 2^3 + 2^3 + 2^4 = 2^5, of which this rank holds a quarter.
  expect([...lse.toNumbers(), ...out.toNumbers()]).toEqual([5, 2, -1]);
});

const f32 = (...shape: number[]): Tensor => Tensor.empty(heap, "f32", shape).fill(1);
const good = { partialOut: f32(2, 3, 4), lses: f32(2, 2, 3), rank: 1, out: f32(2, 3, 4), lse: f32(2, 3) };
const BAD: readonly [what: string, changes: Partial<CorrectAttnOutArgs>, message: RegExp][] = [
  [
    "a partial output of two dimensions",
    { partialOut: f32(6, 4) },
    /`partialOut` must be of shape \[any, any, any\], but is \[6, 4\]/,
  ],
  [
    "a partial output of integers",
    { partialOut: Tensor.zeros(heap, "i32", [2, 3, 4]) },
    /`partialOut` must be of dtype f32, f16, bf16/,
  ],
  ["lses of another batch", { lses: f32(2, 3, 3) }, /`lses` must be of shape \[any, 2, 3\]/],
  ["f16 lses", { lses: Tensor.zeros(heap, "f16", [2, 2, 3]) }, /`lses` must be of dtype f32/],
  ["no lses", { lses: f32(0, 2, 3) }, /`rank` must be/],
  ["a rank beyond the lses", { rank: 2 }, /`rank` must be an integer from 0 to 1, but is 2/],
  ["a negative rank", { rank: -1 }, /`rank`/],
  ["a fractional rank", { rank: 0.5 }, /`rank`/],
  ["a result of another shape", { out: f32(2, 3, 5) }, /`out` must be of shape \[2, 3, 4\]/],
  ["a result of another dtype", { out: Tensor.zeros(heap, "f16", [2, 3, 4]) }, /`out` must be of dtype/],
  ["an lse of another shape", { lse: f32(3, 2) }, /`lse` must be of shape \[2, 3\]/],
  ["an unknown base", { base: "10" as "2" }, /`base` must be "e" or "2", but is 10/],
];

for (const backend of backends) {
  describe(`correctAttnOut on ${backend.name} rejects`, () => {
    for (const [what, changes, message] of BAD) {
      test(what, () => {
        const args = { ...good, ...changes };
        return expectRejected(() => backend.correctAttnOut(args), ArgumentError, message, [good.out, good.lse]);
      });
    }
  });

  test(
    `corrected outputs of all ranks sum to the merged output on ${backend.name}`,
    () =>
      fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: 6 }),
          fc.integer({ min: 1, max: 5 }),
          fc.constantFrom<"e" | "2">("e", "2"),
          fc.array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: 64, maxLength: 64 }),
          async (ranks, dim, base, numbers) => {
            const draw = (index: number): number => numbers[index % numbers.length] ?? 0;
            const lses = Tensor.from(
              heap,
              "f32",
              [ranks, 1, 1],
              Array.from({ length: ranks }, (_, rank) => draw(rank)),
            );
            const lse = Tensor.empty(heap, "f32", [1, 1]);
            const outs = Array.from({ length: ranks }, (_, rank) =>
              Tensor.from(
                heap,
                "f32",
                [1, 1, dim],
                Array.from({ length: dim }, (_, at) => draw(ranks + rank * dim + at)),
              ),
            );
            const merged = Tensor.empty(heap, "f32", [1, 1, dim]);
            await backend.mergeAttnStates({
              outs,
              lses: outs.map((_, rank) => lses.select(0, rank)),
              base,
              out: merged,
            });
            const sums = new Float64Array(dim);
            for (const [rank, out] of outs.entries()) {
              await backend.correctAttnOut({ partialOut: out, lses, rank, base, out, lse });
              for (const [at, value] of out.toNumbers().entries()) sums[at] = (sums[at] ?? 0) + value;
            }
            for (const [at, value] of merged.toNumbers().entries()) {
              expect(Math.abs((sums[at] ?? 0) - value)).toBeLessThan(1e-4);
            }
            for (const tensor of [lses, lse, merged, ...outs]) tensor.free();
          },
        ),
        { numRuns: backend.name === "webgpu" ? 10 : 100, seed: 7 },
      ),
    TEST_TIMEOUT_MS,
  );
}
