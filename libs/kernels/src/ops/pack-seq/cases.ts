import { type Allocator, type DType, DTYPE_BYTES, type Tensor } from "@lockstep/tensor";
import { fillRandomBits } from "../../testing/random-bits.ts";
import type { OpCase } from "../../testing/op-case.ts";
import { emptyStrided, type Layout } from "../../testing/strided.ts";
import type { PackSeqArgs } from "./index.ts";

/** Lengths and trailing shapes that packSeq and unpackSeq share. */
export interface SeqRow {
  readonly lengths: readonly number[];
  readonly trailing: readonly number[];
  readonly dtype?: DType;
  /** Rows of x beyond the sum of the lengths. */
  readonly extraRows?: number;
  readonly padValue?: number;
  readonly layout?: Layout;
  readonly blocks?: readonly [blockT: number, blockD: number];
}

export interface HeapPackSeqArgs extends PackSeqArgs {
  readonly x: Tensor;
  readonly out: Tensor;
}

export const SEQ_ROWS: readonly SeqRow[] = [
  { lengths: [3, 3], trailing: [4] },
  { lengths: [2, 4, 4], trailing: [8, 16], padValue: -100 },
  { lengths: [5, 5, 5, 5], trailing: [3] },
  { lengths: [7, 5, 3], trailing: [64], padValue: 100 },
  { lengths: [1, 1, 1], trailing: [32], extraRows: 17 },
  { lengths: [10], trailing: [5], padValue: 0 },
  { lengths: [3, 0, 5, 0], trailing: [7], padValue: -0.5 },
  { lengths: [0, 0], trailing: [7], extraRows: 2 },
  { lengths: [], trailing: [7], extraRows: 2 },
  { lengths: [4, 2], trailing: [] },
  { lengths: [4, 2], trailing: [0] },
  { lengths: [1, 2, 3], trailing: [1] },
  { lengths: [70, 129, 1], trailing: [113] },
  { lengths: [33, 65], trailing: [130], blocks: [1, 7] },
  { lengths: [7, 5, 3], trailing: [64], dtype: "f16" },
  { lengths: [7, 0, 3], trailing: [3], dtype: "f16", padValue: 65519.5 },
  { lengths: [2, 4, 4], trailing: [5, 3], dtype: "bf16", padValue: -12.3456 },
  { lengths: [2, 5], trailing: [1], dtype: "bf16" },
  { lengths: [7, 5, 3], trailing: [9], dtype: "i32", padValue: -7 },
  { lengths: [7, 5, 3], trailing: [9], dtype: "u32", padValue: 4294967295 },
  { lengths: [7, 5, 3], trailing: [33], dtype: "u8", padValue: 255 },
  { lengths: [1, 3, 2], trailing: [3], dtype: "u8" },
  { lengths: [5, 2, 7], trailing: [1], dtype: "u8", padValue: 17 },
  { lengths: [3, 5], trailing: [4, 6], layout: "gaps" },
  { lengths: [3, 5], trailing: [4, 6], layout: "transposed", dtype: "f16" },
  { lengths: [3, 5], trailing: [4, 6], layout: "every-second", dtype: "u8", padValue: 9 },
  { lengths: [3, 5], trailing: [4, 6], layout: "columns-first", dtype: "bf16" },
  { lengths: [3, 5], trailing: [2, 3, 4], layout: "columns-first" },
];

export const PACK_SEQ_CASES: readonly OpCase<HeapPackSeqArgs>[] = SEQ_ROWS.map((row, index) => ({
  name: describeSeqRow(row),
  tolerance: "bits",
  build: (arena) => {
    const { lengths, trailing, dtype = "f32", padValue, layout = "contiguous", blocks } = row;
    const rows = lengths.reduce((sum, length) => sum + length, row.extraRows ?? 0);
    return {
      x: randomBitsTensor(arena, dtype, [rows, ...trailing], layout, 2000 + index),
      lengths,
      ...(padValue === undefined ? {} : { padValue }),
      ...(blocks === undefined ? {} : { blockT: blocks[0], blockD: blocks[1] }),
      out: emptyStrided(arena, dtype, [lengths.length, Math.max(0, ...lengths), ...trailing], layout),
    };
  },
}));

/** A tensor of random bit patterns: every value of its dtype can occur, NaN payloads and subnormals too. */
export function randomBitsTensor(
  allocator: Allocator,
  dtype: DType,
  shape: readonly number[],
  layout: Layout,
  seed: number,
): Tensor {
  const tensor = emptyStrided(allocator, dtype, shape, layout);
  fillRandomBits(tensor, seed, 8 * DTYPE_BYTES[dtype]);
  return tensor;
}

export function describeSeqRow(row: SeqRow): string {
  const parts = [`lengths [${row.lengths}] of [T, ${row.trailing}] ${row.dtype ?? "f32"}`];
  if (row.extraRows !== undefined) parts.push(`${row.extraRows} rows unused`);
  if (row.padValue !== undefined) parts.push(`pad ${row.padValue}`);
  if (row.layout !== undefined) parts.push(row.layout);
  if (row.blocks !== undefined) parts.push(`blocks ${row.blocks}`);
  return parts.join(", ");
}
