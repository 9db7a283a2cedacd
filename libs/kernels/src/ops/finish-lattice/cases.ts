import { type Arena, type DType, Tensor } from "@lockstep/tensor";
import { F32_TOLERANCE } from "../../testing/close.ts";
import type { OpCase } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { emptyStrided, type Layout } from "../../testing/strided.ts";
import { NOT_FINITE } from "../lattice-sums/lattice.ts";
import type { FinishLatticeArgs } from "./index.ts";

export interface HeapFinishLatticeArgs extends FinishLatticeArgs {
  readonly bounds: Tensor;
  readonly sums: Tensor;
  readonly out: Tensor;
  readonly lse: Tensor;
}

interface FinishRow {
  readonly tokens: number;
  readonly heads: number;
  readonly valueDim: number;
  readonly dtype: DType;
  readonly layout: Layout;
}

const ROWS: readonly FinishRow[] = [
  { tokens: 1, heads: 1, valueDim: 1, dtype: "f32", layout: "contiguous" },
  { tokens: 3, heads: 4, valueDim: 16, dtype: "f32", layout: "contiguous" },
  { tokens: 7, heads: 5, valueDim: 13, dtype: "f32", layout: "gaps" },
  { tokens: 4, heads: 8, valueDim: 64, dtype: "f16", layout: "contiguous" },
  { tokens: 4, heads: 3, valueDim: 7, dtype: "bf16", layout: "contiguous" },
  { tokens: 4, heads: 3, valueDim: 9, dtype: "f16", layout: "transposed" },
  { tokens: 5, heads: 2, valueDim: 8, dtype: "bf16", layout: "every-second" },
  { tokens: 2, heads: 2, valueDim: 0, dtype: "f32", layout: "contiguous" },
  { tokens: 0, heads: 2, valueDim: 4, dtype: "f32", layout: "contiguous" },
];

export const FINISH_LATTICE_CASES: readonly OpCase<HeapFinishLatticeArgs>[] = ROWS.map((row, index) => ({
  name: `${row.tokens} tokens, ${row.heads} heads, Dv ${row.valueDim}, ${row.dtype}, ${row.layout}`,
  tolerance: F32_TOLERANCE,
  build: (arena: Arena) => build(arena, row, new Random(700 + index)),
}));

/** Sums of up to 32 ranks; of every ten rows one saw nothing, one a score and one a value that is not finite. */
function build(arena: Arena, row: FinishRow, random: Random): HeapFinishLatticeArgs {
  const { tokens, heads, valueDim, dtype, layout } = row;
  const rows = tokens * heads;
  const bounds = Tensor.empty(arena, "f32", [3, tokens, heads]);
  const sums = Tensor.zeros(arena, "i32", [tokens, heads, valueDim + 1, 2]);
  for (let at = 0; at < rows; at++) {
    const kind = random.integer(10);
    const score = 8 * random.normal();
    const exponent = random.integer(12) - 6;
    bounds.f32[at] = kind === 0 ? Number.NEGATIVE_INFINITY : kind === 1 ? Number.POSITIVE_INFINITY : score;
    bounds.f32[rows + at] = kind === 0 ? Number.NEGATIVE_INFINITY : score + exponent - random.uniform();
    bounds.f32[2 * rows + at] = kind === 0 ? Number.NEGATIVE_INFINITY : exponent;
    const ranks = 1 + random.integer(32);
    for (let column = 0; column <= valueDim && kind > 1; column++) {
      const place = (at * (valueDim + 1) + column) * 2;
      const isTotal = column === valueDim;
      const isMarked = kind === 2 && column % 3 === 1 && !isTotal;
      const low = ranks * random.integer(2 ** 26);
      const high =
        (isTotal ? 1 + random.integer(999) : random.integer(1999) - 999) + (isMarked ? ranks * NOT_FINITE : 0);
      sums.i32.set([low, high], place);
    }
  }
  const out = emptyStrided(arena, dtype, [tokens, heads, valueDim], layout);
  return { bounds, sums, out, lse: emptyStrided(arena, "f32", [tokens, heads], layout) };
}
