import { describe, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { expectRejected, testCases } from "../../testing/op-case.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import { GATHER_KV_CACHE_CASES } from "./cases.ts";
import type { GatherKvCacheArgs } from "./index.ts";
import { gatherKvCacheReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = await openTestBackends(heap);

testCases(heap, backends, {
  name: "gatherKvCache",
  cases: GATHER_KV_CACHE_CASES,
  outputs: (args) => [["rows", args.rows]],
  reference: gatherKvCacheReference,
  run: (backend, args) => backend.gatherKvCache(args),
});

const cache = Tensor.zeros(heap, "f16", [3, 2, 2, 4]);
const rows = Tensor.zeros(heap, "f16", [2, 2, 4]);
const BAD: readonly [what: string, changes: Partial<GatherKvCacheArgs>, message: RegExp][] = [
  ["a slot beyond the cache", { slots: [0, 6] }, /`slots` must be from 0 to 5, but is 6 at index 1/],
  ["a slot of -1", { slots: [-1, 0] }, /`slots` must be from 0 to 5, but is -1 at index 0/],
  ["too few rows", { slots: [0, 1, 2] }, /`rows` must be of shape \[3, 2, 4\]/],
  ["rows of another dtype", { rows: Tensor.zeros(heap, "f32", [2, 2, 4]) }, /`rows` must be of dtype f16/],
  ["rows with gaps", { rows: Tensor.zeros(heap, "f16", [2, 2, 8]).slice(2, 0, 8, 2) }, /`rows` must be contiguous/],
];
describe.each(backends.map((backend) => [backend.name, backend] as const))(
  "gatherKvCache on %s rejects",
  (_, backend) => {
    test.each(BAD)("%s", (_what, changes, message) =>
      expectRejected(() => backend.gatherKvCache({ cache, slots: [0, 1], rows, ...changes }), ArgumentError, message, [
        rows,
      ]),
    );
  },
);
