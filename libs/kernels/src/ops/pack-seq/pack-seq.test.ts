import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, type DType, DTYPES, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { expectSameBits } from "../../testing/close.ts";
import { expectRejected, TEST_TIMEOUT_MS, testCases } from "../../testing/op-case.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import { PACK_SEQ_CASES, randomBitsTensor } from "./cases.ts";
import type { PackSeqArgs } from "./index.ts";
import { packSeqReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = await openTestBackends(heap);

testCases(heap, backends, {
  name: "packSeq",
  cases: PACK_SEQ_CASES,
  outputs: (args) => [["out", args.out]],
  reference: packSeqReference,
  run: (backend, args) => backend.packSeq(args),
});

test("the reference packs as one would by hand", () => {
  const x = Tensor.from(heap, "u8", [4, 1], [1, 2, 3, 4]);
  const out = Tensor.zeros(heap, "u8", [3, 2, 1]);
  packSeqReference({ x, lengths: [2, 0, 1], padValue: 9, out });
  expect([...out.toNumbers()]).toEqual([1, 2, 9, 9, 3, 9]);
});

const tensor = (dtype: DType, ...shape: number[]): Tensor => Tensor.empty(heap, dtype, shape).fill(1);
const good = { x: tensor("f32", 5, 3), lengths: [2, 3], out: tensor("f32", 2, 3, 3) };
const bytes = { x: tensor("u8", 5, 3), out: tensor("u8", 2, 3, 3) };
const integers = { x: tensor("i32", 5, 3), out: tensor("i32", 2, 3, 3) };
const BAD: readonly [what: string, changes: Partial<PackSeqArgs>, message: RegExp][] = [
  ["an x without dimensions", { x: tensor("f32") }, /`x` must be of at least one dimension/],
  ["a negative length", { lengths: [-1, 3] }, /`lengths` must be non-negative integers, but is -1 at index 0/],
  ["a fractional length", { lengths: [2.5, 3] }, /`lengths`/],
  ["lengths beyond the rows", { lengths: [3, 3] }, /`lengths` must be a sum of at most 5.*sum of 6/],
  ["an out that is too long", { out: tensor("f32", 2, 4, 3) }, /`out` must be of shape \[2, 3, 3\]/],
  ["an out of another batch", { out: tensor("f32", 3, 3, 3) }, /`out`/],
  ["an out of other columns", { out: tensor("f32", 2, 3, 4) }, /`out`/],
  ["an out of another dtype", { out: tensor("f16", 2, 3, 3) }, /`out` must be of dtype f32/],
  ["-inf as an integer pad", { ...integers, padValue: -Infinity }, /`padValue` must be an integer from -2147483648/],
  [
    "a pad beyond a byte",
    { ...bytes, padValue: 256 },
    /`padValue` must be an integer from 0 to 255 for u8, but is 256/,
  ],
  ["a negative byte pad", { ...bytes, padValue: -1 }, /`padValue`/],
  ["a fractional integer pad", { ...integers, padValue: 0.5 }, /`padValue`/],
  ["a blockT of 0", { blockT: 0 }, /`blockT`/],
  ["a fractional blockD", { blockD: 1.5 }, /`blockD`/],
];

for (const backend of backends) {
  describe(`packSeq on ${backend.name} rejects`, () => {
    for (const [what, changes, message] of BAD) {
      test(what, () => {
        const args = { ...good, ...changes };
        return expectRejected(() => backend.packSeq(args), ArgumentError, message, [good.out, bytes.out, integers.out]);
      });
    }
  });

  test(
    `unpackSeq undoes packSeq bit for bit on ${backend.name}`,
    () =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 6 }),
          fc.array(fc.integer({ min: 1, max: 7 }), { maxLength: 2 }),
          fc.constantFrom(...DTYPES),
          fc.integer(),
          async (lengths, trailing, dtype, seed) => {
            const sum = lengths.reduce((total, length) => total + length, 0);
            const x = randomBitsTensor(heap, dtype, [sum, ...trailing], "contiguous", seed);
            const packed = Tensor.empty(heap, dtype, [lengths.length, Math.max(0, ...lengths), ...trailing]);
            const back = Tensor.zeros(heap, dtype, x.shape);
            await backend.packSeq({ x, lengths, out: packed });
            await backend.unpackSeq({ packed, lengths, out: back });
            expectSameBits("back", back, x);
            for (const used of [x, packed, back]) used.free();
          },
        ),
        { numRuns: backend.name === "webgpu" ? 20 : 200, seed: 11 },
      ),
    TEST_TIMEOUT_MS,
  );
}
