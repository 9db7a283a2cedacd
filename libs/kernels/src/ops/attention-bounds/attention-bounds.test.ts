import { afterAll, describe, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { openBackend } from "../../backends/open-backend.ts";
import { expectRejected, testCases } from "../../testing/op-case.ts";
import { ATTENTION_BOUNDS_CASES } from "./cases.ts";
import type { UnplannedAttentionBoundsArgs } from "./index.ts";
import { attentionBoundsReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = [await openBackend("reference", { heap }), await openBackend("wasm", { heap })];
afterAll(() => Promise.all(backends.map((backend) => backend.close())));

testCases(heap, backends, {
  name: "attentionBounds",
  cases: ATTENTION_BOUNDS_CASES,
  outputs: (args) => [["bounds", args.bounds]],
  reference: attentionBoundsReference,
  run: (backend, args) => backend.attentionBounds(args),
});

const tensor = (dtype: "f32" | "i32", ...shape: number[]): Tensor => Tensor.zeros(heap, dtype, shape);
const bounds = tensor("f32", 3, 1, 1);
const good: UnplannedAttentionBoundsArgs = {
  query: tensor("f32", 1, 1, 2),
  keyCache: tensor("f32", 1, 2, 1, 2),
  valueCache: tensor("f32", 1, 2, 1, 2),
  blockTable: tensor("i32", 1, 1),
  sequences: [0],
  positions: [1],
  bounds,
};
const BAD: readonly [what: string, changes: Partial<UnplannedAttentionBoundsArgs>, message: RegExp][] = [
  ["bounds of another shape", { bounds: tensor("f32", 2, 1, 1) }, /`bounds` must be of shape \[3, 1, 1\]/],
  ["bounds of integers", { bounds: tensor("i32", 3, 1, 1) }, /`bounds` must be of dtype f32/],
  ["scores without room", { scores: tensor("f32", 1, 1, 1) }, /`scores` must be of room for the 2 keys/],
  ["scores of another dtype", { scores: tensor("i32", 1, 1, 2) }, /`scores` must be of dtype f32/],
  ["scores over the bounds", { scores: bounds.slice(0, 0, 2).reshape([1, 1, 2]) }, /`scores` must be apart from/],
  ["a flag that is none", { continues: JSON.parse("null") }, /`continues` must be true or false, but is null/],
];

for (const backend of backends) {
  describe(`attentionBounds on ${backend.name} rejects`, () => {
    for (const [what, changes, message] of BAD) {
      test(what, () =>
        expectRejected(() => backend.attentionBounds({ ...good, ...changes }), ArgumentError, message, [bounds]),
      );
    }
  });
}
