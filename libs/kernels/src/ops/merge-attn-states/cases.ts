import type { DType, Tensor } from "@lockstep/tensor";
import { F32_TOLERANCE } from "../../testing/close.ts";
import type { OpCase } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import { emptyStrided, type Layout, strided } from "../../testing/strided.ts";
import type { LseBase, NonFinite } from "../correct-attn-out/index.ts";
import type { MergeAttnStatesArgs } from "./index.ts";

/** Which states hold nothing (LSE -inf, NaN or +inf, output NaN). */
type EmptyPattern = "none" | "interior" | "leading" | "trailing" | "all" | "tenth";

interface Row {
  readonly states: number;
  readonly shape: readonly [tokens: number, heads: number, dim: number];
  readonly dtype?: DType;
  readonly outDType?: DType;
  readonly base?: LseBase;
  readonly empty?: EmptyPattern;
  readonly layout?: Layout;
  readonly withoutLse?: boolean;
  readonly nonFinite?: NonFinite;
  /** LSE of state i is i * step instead of random. */
  readonly lseStep?: number;
  /** Added to every LSE. */
  readonly lseOffset?: number;
  /** Some elements of the first and the last state's outputs are NaN or infinite. */
  readonly damaged?: boolean;
}

export interface HeapMergeAttnStatesArgs extends MergeAttnStatesArgs {
  readonly out: Tensor;
  readonly lse?: Tensor;
}

const ROWS: readonly Row[] = [
  { states: 1, shape: [3, 2, 8] },
  { states: 2, shape: [256, 4, 32], empty: "tenth" },
  { states: 2, shape: [613, 4, 48], empty: "tenth" },
  { states: 2, shape: [64, 8, 96], empty: "tenth", dtype: "bf16" },
  { states: 2, shape: [33, 16, 128], empty: "tenth", dtype: "f16" },
  { states: 2, shape: [8, 64, 64], dtype: "bf16", outDType: "f32" },
  { states: 2, shape: [8, 4, 256], outDType: "f16", base: "2" },
  { states: 3, shape: [5, 3, 113], outDType: "bf16" },
  { states: 4, shape: [7, 8, 32] },
  { states: 4, shape: [17, 6, 512], empty: "interior" },
  { states: 2, shape: [1, 6, 512], empty: "leading" },
  { states: 8, shape: [9, 6, 64], empty: "trailing" },
  { states: 8, shape: [3, 2, 40], empty: "all", outDType: "f16" },
  { states: 5, shape: [4, 1, 1], empty: "tenth", base: "2" },
  { states: 6, shape: [4, 3, 3], withoutLse: true },
  { states: 7, shape: [2, 3, 5], dtype: "f16" },
  { states: 3, shape: [2, 5, 7], dtype: "bf16", empty: "interior" },
  { states: 3, shape: [2, 2, 16], lseStep: 100 },
  { states: 3, shape: [2, 2, 16], lseStep: -100, base: "2" },
  { states: 4, shape: [2, 2, 16], lseStep: 0 },
  { states: 3, shape: [6, 4, 20], layout: "gaps", empty: "tenth" },
  { states: 3, shape: [6, 4, 20], layout: "transposed", dtype: "f16", outDType: "f32" },
  { states: 3, shape: [6, 4, 21], layout: "every-second" },
  { states: 3, shape: [6, 4, 21], layout: "columns-first", dtype: "bf16" },
  // NaN and +inf LSEs that are not empty; outputs that are not finite under factors of 0.
  { states: 2, shape: [64, 8, 96], empty: "tenth", nonFinite: "propagate" },
  { states: 2, shape: [33, 4, 128], empty: "tenth", dtype: "f16", nonFinite: "propagate" },
  { states: 5, shape: [33, 3, 40], empty: "tenth", dtype: "bf16", base: "2", nonFinite: "propagate" },
  { states: 8, shape: [3, 2, 40], empty: "all", outDType: "f16", nonFinite: "propagate" },
  { states: 3, shape: [3, 2, 16], lseStep: 200, damaged: true, nonFinite: "propagate" },
  { states: 3, shape: [3, 2, 16], lseStep: 200, damaged: true, dtype: "bf16", nonFinite: "propagate" },
  { states: 3, shape: [3, 2, 21], lseStep: -200, damaged: true, layout: "every-second", nonFinite: "propagate" },
  { states: 3, shape: [3, 2, 16], lseStep: 200, damaged: true },
  { states: 3, shape: [3, 2, 8], lseStep: 0, lseOffset: 1e30 },
  { states: 3, shape: [3, 2, 8], lseStep: 0, lseOffset: -1e30, nonFinite: "propagate" },
  { states: 2, shape: [0, 4, 8] },
  { states: 2, shape: [3, 4, 0] },
];

export const MERGE_ATTN_STATES_CASES: readonly OpCase<HeapMergeAttnStatesArgs>[] = ROWS.map((row, index) => ({
  name: describeRow(row),
  tolerance: F32_TOLERANCE,
  build: (arena) => {
    const { states, shape, dtype = "f32", outDType = dtype, base, nonFinite } = row;
    const { empty = "none", layout = "contiguous", lseOffset = 0 } = row;
    const [tokens, heads, dim] = shape;
    const random = new Random(3000 + index);
    const outs: Tensor[] = [];
    const lses: Tensor[] = [];
    for (let state = 0; state < states; state++) {
      const values = random.normals(tokens * heads * dim);
      const lseValues = Float64Array.from({ length: tokens * heads }, () => {
        const value = row.lseStep === undefined ? random.normal() * 3 : state * row.lseStep + lseOffset;
        return isEmpty(random, empty, state, states) ? special(random) : value;
      });
      for (let at = 0; at < values.length; at++) {
        if (!Number.isFinite(lseValues[Math.floor(at / dim)])) values[at] = Number.NaN;
      }
      if (row.damaged && (state === 0 || state === states - 1)) {
        for (let at = state; at < values.length; at += 7) values[at] = special(random);
      }
      outs.push(strided(arena, dtype, shape, values, layout));
      lses.push(strided(arena, "f32", [tokens, heads], lseValues, layout));
    }
    return {
      outs,
      lses,
      ...(base === undefined ? {} : { base }),
      ...(nonFinite === undefined ? {} : { nonFinite }),
      out: emptyStrided(arena, outDType, shape, layout),
      ...(row.withoutLse ? {} : { lse: emptyStrided(arena, "f32", [tokens, heads], layout) }),
    };
  },
}));

function isEmpty(random: Random, pattern: EmptyPattern, state: number, states: number): boolean {
  const drawn = random.integer(10) === 0;
  switch (pattern) {
    case "none":
      return false;
    case "interior":
      return state > 0 && state < states - 1;
    case "leading":
      return state === 0;
    case "trailing":
      return state === states - 1;
    case "all":
      return true;
    case "tenth":
      return drawn;
  }
}

function special(random: Random): number {
  return [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NaN][random.integer(3)] ?? Number.NaN;
}

function describeRow(row: Row): string {
  const [tokens, heads, dim] = row.shape;
  const dtype = row.dtype ?? "f32";
  const parts = [`N${row.states} T${tokens} H${heads} D${dim} ${dtype} -> ${row.outDType ?? dtype}`];
  parts.push(`base ${row.base ?? "e"}`, `${row.empty ?? "none"} empty`);
  if (row.nonFinite !== undefined) parts.push(row.nonFinite);
  if (row.damaged) parts.push("damaged");
  if (row.lseOffset !== undefined) parts.push(`LSEs around ${row.lseOffset}`);
  if (row.lseStep !== undefined) parts.push(`LSEs ${row.lseStep} apart`);
  if (row.layout !== undefined) parts.push(row.layout);
  if (row.withoutLse) parts.push("no LSE wanted");
  return parts.join(", ");
}
