import type { DType, Tensor } from "@lockstep/tensor";
import { F32_TOLERANCE } from "../../testing/close.ts";
import type { OpCase } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { emptyStrided, type Layout, strided } from "../../testing/strided.ts";
import type { CorrectAttnOutArgs, LseBase, NonFinite } from "./index.ts";

/** How the LSEs of a case are distributed over ranks. Outputs of ranks that hold nothing are NaN. */
type LsePattern =
  | "random"
  | "equal"
  /** Rank 0 at 0, the others at -200. */
  | "dominant"
  /** An eighth each of -inf, NaN and +inf. */
  | "special"
  /** This rank holds nothing. */
  | "rank-empty"
  /** Row 0 is empty on every rank. */
  | "row-empty"
  | "all-empty"
  /** Spread over 60. */
  | "wide"
  /** Around 1000: base^lse overflows unless the maximum is subtracted. */
  | "large"
  /** All at -1e30: a count's logarithm is absorbed. */
  | "huge";

interface Row {
  readonly ranks: number;
  readonly shape: readonly [batch: number, heads: number, dim: number];
  readonly rank?: number;
  readonly dtype?: DType;
  readonly base?: LseBase;
  readonly lses?: LsePattern;
  readonly nonFinite?: NonFinite;
  /** Some elements of the output are NaN or infinite. */
  readonly damaged?: boolean;
  readonly layout?: Layout;
  readonly lseLayout?: Layout;
  readonly inPlace?: boolean;
}

export interface HeapCorrectAttnOutArgs extends CorrectAttnOutArgs {
  readonly out: Tensor;
  readonly lse: Tensor;
}

const ROWS: readonly Row[] = [
  { ranks: 1, shape: [3, 2, 8] },
  { ranks: 2, shape: [4, 8, 32] },
  { ranks: 2, shape: [4, 8, 64], base: "2" },
  { ranks: 2, shape: [4, 8, 192], inPlace: true },
  { ranks: 2, shape: [4, 8, 576], base: "2" },
  { ranks: 3, shape: [5, 3, 113], rank: 1 },
  { ranks: 5, shape: [7, 1, 1], rank: 4 },
  { ranks: 7, shape: [1, 7, 3], rank: 6, base: "2" },
  { ranks: 8, shape: [4, 4, 5], rank: 3 },
  { ranks: 4, shape: [2, 3, 7], rank: 2, lses: "equal" },
  { ranks: 4, shape: [2, 3, 128], lses: "dominant" },
  { ranks: 4, shape: [2, 3, 128], rank: 1, lses: "dominant", base: "2" },
  { ranks: 8, shape: [16, 8, 32], rank: 5, lses: "special" },
  { ranks: 8, shape: [16, 8, 32], rank: 5, lses: "special", base: "2" },
  { ranks: 3, shape: [4, 4, 16], rank: 2, lses: "rank-empty" },
  { ranks: 1, shape: [4, 4, 16], lses: "rank-empty", dtype: "f16" },
  { ranks: 4, shape: [4, 4, 16], rank: 1, lses: "row-empty" },
  { ranks: 4, shape: [4, 4, 16], rank: 1, lses: "all-empty", inPlace: true },
  { ranks: 8, shape: [5, 4, 40], rank: 7, lses: "wide" },
  { ranks: 8, shape: [5, 4, 40], rank: 0, lses: "large", base: "2" },
  { ranks: 4, shape: [4, 8, 128], dtype: "f16", lses: "special" },
  { ranks: 4, shape: [4, 8, 128], dtype: "bf16", lses: "special" },
  { ranks: 4, shape: [4, 8, 113], dtype: "f16", lses: "wide", base: "2", inPlace: true },
  { ranks: 4, shape: [4, 8, 7], dtype: "bf16", inPlace: true },
  { ranks: 3, shape: [4, 6, 20], rank: 1, layout: "gaps", lseLayout: "gaps" },
  { ranks: 3, shape: [4, 6, 20], rank: 1, layout: "transposed", lseLayout: "transposed", inPlace: true },
  { ranks: 3, shape: [4, 6, 21], rank: 1, layout: "every-second", lseLayout: "every-second", dtype: "f16" },
  { ranks: 3, shape: [4, 6, 21], rank: 1, layout: "columns-first", lseLayout: "columns-first", dtype: "bf16" },
  { ranks: 3, shape: [4, 6, 21], rank: 1, layout: "columns-first", inPlace: true, lses: "special" },
  // NaN and +inf LSEs that are not empty; outputs that are not finite under factors of 0.
  { ranks: 8, shape: [16, 8, 32], rank: 5, lses: "special", nonFinite: "propagate" },
  { ranks: 4, shape: [4, 8, 128], dtype: "f16", lses: "special", base: "2", nonFinite: "propagate", inPlace: true },
  { ranks: 4, shape: [4, 8, 21], dtype: "bf16", lses: "special", nonFinite: "propagate", layout: "every-second" },
  { ranks: 3, shape: [4, 4, 16], rank: 2, lses: "rank-empty", nonFinite: "propagate" },
  { ranks: 4, shape: [4, 4, 16], rank: 1, lses: "all-empty", nonFinite: "propagate" },
  { ranks: 4, shape: [2, 3, 128], rank: 1, lses: "dominant", damaged: true, nonFinite: "propagate" },
  { ranks: 4, shape: [2, 3, 128], rank: 1, lses: "dominant", damaged: true, dtype: "f16", nonFinite: "propagate" },
  { ranks: 4, shape: [2, 3, 21], rank: 1, lses: "dominant", damaged: true },
  { ranks: 4, shape: [2, 3, 20], rank: 1, lses: "huge" },
  { ranks: 4, shape: [2, 3, 20], rank: 1, lses: "huge", base: "2", nonFinite: "propagate" },
  { ranks: 2, shape: [0, 4, 8] },
  { ranks: 2, shape: [2, 0, 8] },
  { ranks: 2, shape: [2, 4, 0] },
];

export const CORRECT_ATTN_OUT_CASES: readonly OpCase<HeapCorrectAttnOutArgs>[] = ROWS.map((row, index) => ({
  name: describeRow(row),
  tolerance: F32_TOLERANCE,
  build: (arena) => {
    const { ranks, shape, rank = 0, dtype = "f32", base, nonFinite, lses: pattern = "random" } = row;
    const { layout = "contiguous", lseLayout = "contiguous", inPlace = false } = row;
    const [batch, heads, dim] = shape;
    const random = new Random(1000 + index);
    const rows = batch * heads;
    const lseValues = drawLses(random, pattern, ranks, rows, heads, rank);
    const values = random.normals(rows * dim);
    // A rank that holds no key of a row may leave anything in it.
    for (let at = 0; at < values.length; at++) {
      if (!Number.isFinite(lseValues[rank * rows + Math.floor(at / dim)])) values[at] = Number.NaN;
    }
    if (row.damaged) {
      for (let at = 0; at < values.length; at += 5) {
        values[at] = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY][random.integer(3)] ?? 0;
      }
    }
    const partialOut = strided(arena, dtype, shape, values, layout);
    return {
      partialOut,
      lses: strided(arena, "f32", [ranks, batch, heads], lseValues, lseLayout),
      rank,
      ...(base === undefined ? {} : { base }),
      ...(nonFinite === undefined ? {} : { nonFinite }),
      out: inPlace ? partialOut : emptyStrided(arena, dtype, shape, layout),
      lse: emptyStrided(arena, "f32", [batch, heads], lseLayout),
    };
  },
}));

/** LSEs [ranks, rows] of a pattern. */
function drawLses(
  random: Random,
  pattern: LsePattern,
  ranks: number,
  rows: number,
  heads: number,
  own: number,
): Float64Array {
  const draw = (rank: number, row: number): number => {
    const value = random.normal() * 2;
    const eighth = random.integer(8);
    switch (pattern) {
      case "random":
        return value;
      case "equal":
        return 1.25;
      case "dominant":
        return rank === 0 ? 0 : -200;
      case "special":
        return [Number.NEGATIVE_INFINITY, Number.NaN, Number.POSITIVE_INFINITY][eighth] ?? value;
      case "rank-empty":
        return rank === own ? Number.NEGATIVE_INFINITY : value;
      case "row-empty":
        return row < heads ? Number.NEGATIVE_INFINITY : value;
      case "all-empty":
        return Number.NEGATIVE_INFINITY;
      case "wide":
        return random.uniform() * 60 - 30;
      case "large":
        return 1000 + value;
      case "huge":
        return -1e30;
    }
  };
  return Float64Array.from({ length: ranks * rows }, (_, at) => draw(Math.floor(at / rows), at % rows));
}

function describeRow(row: Row): string {
  const [batch, heads, dim] = row.shape;
  const parts = [`N${row.ranks} B${batch} H${heads} D${dim} ${row.dtype ?? "f32"} base ${row.base ?? "e"}`];
  parts.push(`${row.lses ?? "random"} LSEs`);
  if (row.nonFinite !== undefined) parts.push(row.nonFinite);
  if (row.damaged) parts.push("damaged");
  if (row.layout !== undefined) parts.push(row.layout);
  if (row.inPlace) parts.push("in place");
  return parts.join(", ");
}
