import { type DType, Tensor } from "@lockstep/tensor";
import type { OpCase } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { fillRandomBits } from "../../testing/random-bits.ts";
import type { GatherKvCacheArgs } from "./index.ts";

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

export type HeapGatherKvCacheArgs = GatherKvCacheArgs & { readonly cache: Tensor; readonly rows: Tensor };

const ROWS: readonly Row[] = [
  { rows: 9, heads: 2, dim: 64, blocks: 4, blockSize: 16, dtype: "f16" },
  { rows: 7, heads: 3, dim: 113, blocks: 3, blockSize: 3, dtype: "bf16" },
  { rows: 5, heads: 1, dim: 576, blocks: 9, blockSize: 1, dtype: "f32" },
  { rows: 11, heads: 2, dim: 7, blocks: 3, blockSize: 5, dtype: "f8e4m3" },
  { rows: 6, heads: 4, dim: 32, blocks: 3, blockSize: 8, dtype: "i8", strided: true },
  { rows: 0, heads: 2, dim: 8, blocks: 2, blockSize: 4, dtype: "f32" },
];

export const GATHER_KV_CACHE_CASES: readonly OpCase<HeapGatherKvCacheArgs>[] = ROWS.map((row, index) => ({
  name: [
    `T${row.rows} Hkv${row.heads} D${row.dim} of ${row.blocks}x${row.blockSize} slots, ${row.dtype}`,
    ...(row.strided ? ["strided"] : []),
  ].join(", "),
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
}));
