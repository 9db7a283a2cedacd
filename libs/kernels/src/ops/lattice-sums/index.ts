import { ArgumentError } from "@lockstep/tensor";
import { expectDType, expectFlag, expectShape, type Operand } from "../../operand.ts";
import { expectApart } from "../../overlapping-operands.ts";
import { checkKeptScores, mostVisibleKeys } from "../attention-bounds/kept-scores.ts";
import {
  type AttentionInputPlan,
  type AttentionInputs,
  expectApartFromInputs,
  type PlannedStep,
  planAttentionInputs,
  type UnplannedStep,
} from "../partial-attention/attention-inputs.ts";
import { MOST_LATTICE_KEYS } from "./lattice.ts";

/**
 * The second pass of world-invariant attention: a shard's sums of weights and of weighted values, as integers, which
 * are the same whatever order they are added in. The inputs are those of `attentionBounds`, and the bounds of the whole
 * context.
 *
 * With m, M and x the three bounds of a row: w_k = 2^(s_k - m), of whose 29 leading bits the last one is set; E = x
 * where |m| >= 2^16, else min(x, ceil(M - m)), at least -300; q = 2^(E - 26). Column c of `sums` is the sum over the
 * keys of w_k * v_kc / q, column Dv the sum of w_k * 2^26 (a sink's included, of value 0): each term by itself rounded
 * to the nearest integer, of which there is one, because terms are odd multiples of 2^-2 or finer. An integer k is
 * written as two words: [..., 0] = k mod 2^26, [..., 1] = floor(k / 2^26). Words may be added as i32 over up to 32
 * ranks, in any order; `finishLattice` makes the results of them.
 *
 * A column in which a value is not finite has 0 and 2^26 as its words, however small the weight. A row whose score is
 * not finite somewhere (m is +inf) has zeros: `bounds` tells. Both survive the sum over ranks.
 *
 * Error of a term: at most q / 2, and 2^-28 of itself; so over n keys an error of a result is at most
 * (n * 3 * 2^-28 * (2^E + |out|)) / sum(w) + 2^-23 * |out|, besides that of scores and weights, which are
 * partialAttention's. On a GPU, which multiplies in f32, a term is off by 2^-24 of itself before it is rounded, so that
 * 2^-23 * sum(w * |v|) / sum(w) come on top.
 * A query may see 2^24 keys in all.
 */
export type LatticeSumsArgs = UnplannedLatticeSumsArgs | PlannedLatticeSumsArgs;

/** With a step that is checked in this call. */
export interface UnplannedLatticeSumsArgs extends LatticeSumsOperands, UnplannedStep {}

/** With a step that was checked before, by `planAttention`. */
export interface PlannedLatticeSumsArgs extends LatticeSumsOperands, PlannedStep {}

/** What latticeSums reads and writes. */
export interface LatticeSumsOperands extends AttentionInputs {
  /** Bounds of the whole context [3, T, Hq], f32: the largest of all shards'. */
  readonly bounds: Operand;
  /** As attentionBounds left them, over the same inputs. Default: computed again, with the same bits. */
  readonly scores?: Operand;
  /** [T, Hq, Dv + 1, 2], i32, of strides 2 and 1 in its last dimensions. Must not overlap the inputs. */
  readonly sums: Operand;
  /**
   * true: the sums go on from what `sums` holds, as for chunks of a context, and sinks, which the first chunk had, are
   * not added again. Default false.
   */
  readonly continues?: boolean;
}

/** What every backend computes from, after the checks. */
export interface LatticeSumsPlan extends AttentionInputPlan {
  readonly continues: boolean;
}

/** Throws ArgumentError unless the arguments fit the contract; returns what to compute. */
export function planLatticeSums(args: LatticeSumsArgs): LatticeSumsPlan {
  const name = "latticeSums";
  const plan = planAttentionInputs(name, args);
  const { tokens, queryHeads, valueDim } = plan;
  const { bounds, scores, sums, continues = false } = args;
  expectFlag(name, "continues", continues);
  expectShape(name, "bounds", bounds, [3, tokens, queryHeads]);
  expectDType(name, "bounds", bounds, ["f32"]);
  expectSums(name, sums, [tokens, queryHeads, valueDim + 1]);
  if (scores !== undefined) checkKeptScores(name, scores, plan);
  expectApartFromInputs(name, { sums }, args, plan.table.tensor);
  expectApart(name, "sums", sums, "bounds", bounds);
  if (scores !== undefined) expectApart(name, "sums", sums, "scores", scores);
  const most = mostVisibleKeys(plan);
  if (most > MOST_LATTICE_KEYS) {
    throw new ArgumentError(name, "positions", `such that a token sees at most ${MOST_LATTICE_KEYS} keys`, `${most}`);
  }
  return { ...plan, continues };
}

/** Throws ArgumentError unless sums have the shape, and both words of a column lie side by side. */
export function expectSums(
  name: string,
  sums: Operand,
  [tokens, heads, columns]: readonly [tokens: number, heads: number, columns: number | null],
): void {
  expectShape(name, "sums", sums, [tokens, heads, columns, 2]);
  expectDType(name, "sums", sums, ["i32"]);
  const isDense = sums.strides[3] === 1 && (sums.strides[2] === 2 || sums.shape[2] === 1);
  if (isDense || tokens * heads === 0) return;
  throw new ArgumentError(name, "sums", "of strides 2 and 1 in its last dimensions", sums.toString());
}
