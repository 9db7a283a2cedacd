import { describe, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import { expectRejected, type OpCase, testCases } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { fillRandomBits } from "../../testing/random-bits.ts";
import { openTestBackends } from "../../testing/test-backends.ts";
import type { GatherKvCacheArgs } from "./index.ts";
import { gatherKvCacheReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = await openTestBackends(heap);

interface Row {
  readonly rows: number;
  readonly heads: number;
  readonly dim: number;
  readonly blocks: number;
  readonly blockSize: number;
  readonly dtype: DType;
  /** Cache with the block and head dimensions exchanged in memory. */
  readonly strided?: boolean;
}

type HeapArgs = GatherKvCacheArgs & { readonly cache: Tensor; readonly rows: Tensor };

const ROWS: readonly Row[] = [
  { rows: 9, heads: 2, dim: 64, blocks: 4, blockSize: 16, dtype: "f16" },
  { rows: 7, heads: 3, dim: 113, blocks: 3, blockSize: 3, dtype: "bf16" },
  { rows: 5, heads: 1, dim: 576, blocks: 9, blockSize: 1, dtype: "f32" },
  { rows: 11, heads: 2, dim: 7, blocks: 3, blockSize: 5, dtype: "f8e4m3" },
  { rows: 6, heads: 4, dim: 32, blocks: 3, blockSize: 8, dtype: "i8", strided: true },
  { rows: 0, heads: 2, dim: 8, blocks: 2, blockSize: 4, dtype: "f32" },
];

testCases(heap, backends, {
  name: "gatherKvCache",
  cases: ROWS.map(
    (row, index): OpCase<HeapArgs> => ({
      name: `T${row.rows} Hkv${row.heads} D${row.dim} of ${row.blocks}x${row.blockSize} slots, ${row.dtype}${row.strided ? ", strided" : ""}`,
      tolerance: "bits",
      build: (arena) => {
        const { rows, heads, dim, blocks, blockSize, dtype } = row;
        const random = new Random(6000 + index);
        const cache = row.strided
          ? Tensor.empty(arena, dtype, [heads, blockSize, blocks, dim]).transpose(0, 2)
          : Tensor.empty(arena, dtype, [blocks, blockSize, heads, dim]);
        fillRandomBits(cache, index, dtype === "f32" ? 23 : dtype === "f16" || dtype === "bf16" ? 16 : 8);
        const slots = Array.from({ length: rows }, () => random.integer(blocks * blockSize));
        return { cache, slots, rows: Tensor.zeros(arena, dtype, [rows, heads, dim]) };
      },
    }),
  ),
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
