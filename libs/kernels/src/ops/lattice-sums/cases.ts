import { type Arena, type DType, Tensor } from "@lockstep/tensor";
import type { KvShard } from "../../kv/kv-ownership.ts";
import type { OpCase } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { attentionInputs } from "../attention-bounds/cases.ts";
import { attentionBoundsReference } from "../attention-bounds/reference.ts";
import { type AttentionRow, buildAttention } from "../partial-attention/cases.ts";
import type { UnplannedLatticeSumsArgs } from "./index.ts";

export interface HeapLatticeSumsArgs extends UnplannedLatticeSumsArgs {
  readonly bounds: Tensor;
  readonly sums: Tensor;
}

const shard: KvShard = { index: 1, count: 2, interleave: 2 };
const DTYPES: readonly DType[] = ["f32", "f16", "bf16"];

/** Every row is run over each dtype of `DTYPES`. */
const ROWS: readonly AttentionRow[] = [
  { lengths: [1], heads: [1, 1], keyDim: 4, blockSize: 4 },
  { lengths: [40, 0, 3], heads: [4, 2], keyDim: 8, valueDim: 12, blockSize: 4, padding: true },
  { lengths: [300], heads: [8, 1], keyDim: 16, blockSize: 16 },
  { lengths: [70, 9], queries: [6, 2], heads: [6, 3], keyDim: 8, valueDim: 3, blockSize: 4, window: 30, shard },
  { lengths: [50], queries: [9], heads: [5, 1], keyDim: 5, valueDim: 7, blockSize: 8, shuffled: true },
  { lengths: [50], heads: [3, 2], keyDim: 4, blockSize: 8, headGroup: { size: 4, offset: 2 } },
  { lengths: [33, 5], heads: [4, 1], keyDim: 12, valueDim: 8, blockSize: 8, mla: true, queries: [5, 2] },
  { lengths: [21], queries: [2], heads: [2, 1], keyDim: 4, blockSize: 4, layout: "gaps", stridedCache: true },
  { lengths: [7], heads: [4, 2], keyDim: 4, valueDim: 0, blockSize: 4 },
  { lengths: [], heads: [4, 2], keyDim: 4, blockSize: 4 },
];

/** Cases of which every backend finds the same integers: scores are integers, in units of ln 2. */
export const LATTICE_SUMS_CASES: readonly OpCase<HeapLatticeSumsArgs>[] = ROWS.flatMap((row, rowIndex) =>
  DTYPES.map((dtype, dtypeIndex) => ({
    name: `row ${rowIndex} over ${dtype}${dtypeIndex === 0 ? "" : ", going on"}`,
    tolerance: "bits" as const,
    build: (arena: Arena) => build(arena, { ...row, dtype }, new Random(900 + rowIndex), dtypeIndex > 0),
  })),
);

function build(arena: Arena, row: AttentionRow, random: Random, continues: boolean): HeapLatticeSumsArgs {
  const args = attentionInputs(buildAttention(arena, { ...row, scale: Math.LN2 }, random));
  const [tokens = 0, heads = 0] = args.query.shape;
  args.query.set(Array.from({ length: args.query.size }, () => random.integer(5) - 2));
  for (const cache of row.mla ? [args.keyCache] : [args.keyCache, args.valueCache]) {
    const numbers = cache.toNumbers();
    cache.set(Array.from(numbers, (number) => (Number.isNaN(number) ? number : random.integer(9) - 4)));
  }
  const bounds = Tensor.empty(arena, "f32", [3, tokens, heads]);
  const sinks = Tensor.empty(arena, "f32", [heads]);
  sinks.set(Array.from({ length: heads }, (_, head) => (head % 2 === 0 ? 0 : Number.NEGATIVE_INFINITY)));
  attentionBoundsReference({ ...args, sinks, bounds });
  // Other shards may have larger scores.
  const columns = (args.valueCache.shape[3] ?? 0) + 1;
  for (let at = 0; at < tokens * heads; at++) {
    const [score = 0, weighted = 0] = [bounds.f32[at], bounds.f32[tokens * heads + at]];
    if (score === Number.NEGATIVE_INFINITY) bounds.f32[at] = random.integer(3);
    else if (random.integer(2) === 0) bounds.f32.set([score + 1], at);
    if (random.integer(3) === 0) bounds.f32.set([weighted + 2], tokens * heads + at);
  }
  const sums = Tensor.empty(arena, "i32", [tokens, heads, columns, 2]);
  sums.set(
    Array.from({ length: sums.size }, (_, at) => (at % 2 === 0 ? random.integer(2 ** 26) : random.integer(99) - 50)),
  );
  return { ...args, bounds, sinks, sums, continues };
}
