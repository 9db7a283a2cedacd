import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import { expectRejected, testCases } from "../../testing/op-case.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import { UNPACK_SEQ_CASES } from "./cases.ts";
import type { UnpackSeqArgs } from "./index.ts";
import { unpackSeqReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = await openTestBackends(heap);

testCases(heap, backends, {
  name: "unpackSeq",
  cases: UNPACK_SEQ_CASES,
  outputs: (args) => [["out", args.out]],
  reference: unpackSeqReference,
  run: (backend, args) => backend.unpackSeq(args),
});

test("the reference unpacks as one would by hand", () => {
  const packed = Tensor.from(heap, "i32", [3, 2], [1, 2, 9, 9, 3, 9]);
  const out = Tensor.zeros(heap, "i32", [3]);
  unpackSeqReference({ packed, lengths: [2, 0, 1], out });
  expect([...out.toNumbers()]).toEqual([1, 2, 3]);
});

const tensor = (dtype: DType, ...shape: number[]): Tensor => Tensor.empty(heap, dtype, shape).fill(1);
const good = { packed: tensor("f32", 2, 3, 4), lengths: [2, 3], out: tensor("f32", 5, 4) };
const BAD: readonly [what: string, changes: Partial<UnpackSeqArgs>, message: RegExp][] = [
  ["a packed tensor of one dimension", { packed: tensor("f32", 4) }, /`packed` must be of at least two dimensions/],
  ["too few lengths", { lengths: [2] }, /`lengths` must be 2 lengths, one per sequence of packed, but is 1/],
  ["a length beyond Lmax", { lengths: [1, 4] }, /`lengths` must be at most Lmax = 3, but is 4 at index 1/],
  ["a negative length", { lengths: [-2, 3] }, /`lengths`/],
  ["an out of another length", { out: tensor("f32", 6, 4) }, /`out` must be of shape \[5, 4\]/],
  ["an out of another dtype", { out: tensor("i32", 5, 4) }, /`out` must be of dtype f32/],
  ["a blockT of 0", { blockT: 0 }, /`blockT`/],
  ["a blockD of NaN", { blockD: Number.NaN }, /`blockD`/],
];

for (const backend of backends) {
  describe(`unpackSeq on ${backend.name} rejects`, () => {
    for (const [what, changes, message] of BAD) {
      test(what, () =>
        expectRejected(() => backend.unpackSeq({ ...good, ...changes }), ArgumentError, message, [good.out]),
      );
    }
  });
}
