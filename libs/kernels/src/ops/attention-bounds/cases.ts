import { type Arena, Tensor } from "@lockstep/tensor";
import { F32_TOLERANCE, HALF_INPUT_TOLERANCE } from "../../testing/close.ts";
import type { OpCase } from "../../testing/op-case.ts";
import { Random } from "../../testing/random.ts";
import {
  ATTENTION_ROWS,
  buildAttention,
  describeRow,
  type HeapPartialAttentionArgs,
} from "../partial-attention/cases.ts";
import type { UnplannedAttentionBoundsArgs } from "./index.ts";

export interface HeapAttentionBoundsArgs extends UnplannedAttentionBoundsArgs {
  readonly bounds: Tensor;
}

/** Arguments of attention without what it writes. */
export function attentionInputs(args: HeapPartialAttentionArgs): Omit<HeapPartialAttentionArgs, "out" | "lse"> {
  const { out, lse, ...inputs } = args;
  const written = [...out.shape, ...lse.shape];
  if (written.some((size) => size < 0)) throw new Error("no results");
  return inputs;
}

/** Bounds that go on from some, in every second case; scores are left out, since backends keep what they like. */
export const ATTENTION_BOUNDS_CASES: readonly OpCase<HeapAttentionBoundsArgs>[] = ATTENTION_ROWS.map((row, index) => ({
  name: `${describeRow(row)}${index % 2 === 0 ? "" : ", going on"}`,
  tolerance: row.dtype === undefined && row.queryDType === undefined ? F32_TOLERANCE : HALF_INPUT_TOLERANCE,
  build: (arena: Arena) => {
    const random = new Random(5000 + index);
    const args = buildAttention(arena, row, random);
    const [tokens = 0, heads = 0] = args.query.shape;
    const bounds = Tensor.empty(arena, "f32", [3, tokens, heads]).fill(Number.NaN);
    if (index % 2 === 0) return { ...attentionInputs(args), bounds };
    bounds.set(random.normals(bounds.size));
    return { ...attentionInputs(args), bounds, continues: true };
  },
}));
