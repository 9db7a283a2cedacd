import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { expectClose } from "../../testing/close.ts";
import { expectRejected, TEST_TIMEOUT_MS, testCases } from "../../testing/op-case.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import { MERGE_ATTN_STATES_CASES } from "./cases.ts";
import type { MergeAttnStatesArgs } from "./index.ts";
import { mergeAttnStatesReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = await openTestBackends(heap);

testCases(heap, backends, {
  name: "mergeAttnStates",
  cases: MERGE_ATTN_STATES_CASES,
  outputs: (args) =>
    args.lse === undefined
      ? [["out", args.out]]
      : [
          ["out", args.out],
          ["lse", args.lse],
        ],
  reference: mergeAttnStatesReference,
  run: (backend, args) => backend.mergeAttnStates(args),
});

test("the reference merges what can be worked out by hand", () => {
  const outs = [Tensor.from(heap, "f32", [1, 1, 1], [8]), Tensor.from(heap, "f32", [1, 1, 1], [16])];
  const lses = [Tensor.from(heap, "f32", [1, 1], [0]), Tensor.from(heap, "f32", [1, 1], [Math.log2(3)])];
  const out = Tensor.empty(heap, "f32", [1, 1, 1]);
  const lse = Tensor.empty(heap, "f32", [1, 1]);
  mergeAttnStatesReference({ outs, lses, base: "2", out, lse });
  // Weights 1/4 and 3/4; 2^0 + 2^log2(3) = 4.
  expect(out.at(0, 0, 0)).toBeCloseTo(14, 5);
  expect(lse.at(0, 0)).toBeCloseTo(2, 6);
});

const f32 = (...shape: number[]): Tensor => Tensor.empty(heap, "f32", shape).fill(1);
const good = { outs: [f32(2, 3, 4), f32(2, 3, 4)], lses: [f32(2, 3), f32(2, 3)], out: f32(2, 3, 4), lse: f32(2, 3) };
const half = Tensor.zeros(heap, "f16", [2, 3, 4]);
const BAD: readonly [what: string, changes: Partial<MergeAttnStatesArgs>, message: RegExp][] = [
  ["no states", { outs: [], lses: [] }, /`outs` must be one or more partial outputs, but is none/],
  ["too few LSEs", { lses: [f32(2, 3)] }, /`lses` must be 2 LSEs, one per partial output, but is 1/],
  ["outputs of two shapes", { outs: [f32(2, 3, 4), f32(2, 3, 5)] }, /`outs\[1\]` must be of shape \[2, 3, 4\]/],
  ["outputs of two dtypes", { outs: [f32(2, 3, 4), half] }, /`outs\[1\]` must be of dtype f32, but is f16/],
  ["outputs of two dimensions", { outs: [f32(6, 4), f32(6, 4)] }, /`outs\[0\]`/],
  ["an LSE of another shape", { lses: [f32(2, 3), f32(3, 2)] }, /`lses\[1\]` must be of shape \[2, 3\]/],
  ["an f16 LSE", { lses: [f32(2, 3), Tensor.zeros(heap, "f16", [2, 3])] }, /`lses\[1\]` must be of dtype f32/],
  ["an out of another shape", { out: f32(2, 3, 5) }, /`out` must be of shape \[2, 3, 4\]/],
  ["an integer out", { out: Tensor.zeros(heap, "i32", [2, 3, 4]) }, /`out` must be of dtype f32, f16, bf16/],
  ["an lse of another shape", { lse: f32(2, 4) }, /`lse`/],
  ["an unknown base", { base: "10" as "2" }, /`base`/],
];

for (const backend of backends) {
  describe(`mergeAttnStates on ${backend.name} rejects`, () => {
    for (const [what, changes, message] of BAD) {
      test(what, () => {
        const args = { ...good, ...changes };
        return expectRejected(() => backend.mergeAttnStates(args), ArgumentError, message, [good.out, good.lse]);
      });
    }
  });

  test(
    `states may be merged in any order and grouping on ${backend.name}`,
    () =>
      fc.assert(
        fc.asyncProperty(fc.infiniteStream(fc.integer({ min: -999, max: 999 })), async (stream) => {
          const next = (): number => (stream.next().value ?? 0) / 100;
          const shape = [2, 3, 5];
          const state = (out: Tensor, lse: Tensor): { out: Tensor; lse: Tensor } => ({ out, lse });
          const made = Array.from({ length: 4 }, () =>
            state(
              Tensor.from(heap, "f32", shape, Array.from({ length: 30 }, next)),
              Tensor.from(
                heap,
                "f32",
                [2, 3],
                Array.from({ length: 6 }, () => (next() > 7 ? Number.NEGATIVE_INFINITY : next())),
              ),
            ),
          );
          const used = [...made];
          const merge = async (...states: { out: Tensor; lse: Tensor }[]): Promise<{ out: Tensor; lse: Tensor }> => {
            const merged = state(Tensor.empty(heap, "f32", shape), Tensor.empty(heap, "f32", [2, 3]));
            used.push(merged);
            await backend.mergeAttnStates({
              outs: states.map(({ out }) => out),
              lses: states.map(({ lse }) => lse),
              ...merged,
            });
            return merged;
          };
          const [a, b, c, d] = made;
          if (a === undefined || b === undefined || c === undefined || d === undefined) throw new Error("four states");
          const whole = await merge(a, b, c, d);
          const others = [await merge(d, b, a, c), await merge(await merge(a, b), await merge(c, d))];
          others.push(await merge(await merge(await merge(d, c), b), a));
          for (const other of others) {
            expectClose("out", other.out, whole.out, { absolute: 2e-5, relative: 2e-5 });
            expectClose("lse", other.lse, whole.lse, { absolute: 2e-5, relative: 2e-5 });
          }
          for (const { out, lse } of used) {
            out.free();
            lse.free();
          }
        }),
        { numRuns: backend.name === "webgpu" ? 5 : 50, seed: 13 },
      ),
    TEST_TIMEOUT_MS,
  );
}
