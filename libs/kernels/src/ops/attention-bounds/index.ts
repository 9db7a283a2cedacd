import { expectDType, expectFlag, expectShape, type Operand } from "../../operand.ts";
import { expectApart } from "../../overlapping-operands.ts";
import {
  type AttentionInputPlan,
  type AttentionInputs,
  expectApartFromInputs,
  type PlannedStep,
  planAttentionInputs,
  type UnplannedStep,
} from "../partial-attention/attention-inputs.ts";
import { checkKeptScores } from "./kept-scores.ts";

/**
 * The first pass of world-invariant attention: how large scores and weighted values are, so that `latticeSums` can add
 * them without rounding that depends on order. The inputs are those of `partialAttention`.
 *
 * For query token t and head h, over the keys k that this shard stores and t sees: s_k is the score of
 * partialAttention in units of ln 2, in f32; e_k is the smallest integer with |v| < 2^e_k for every finite element v of
 * k's value (what it is worth, scales included); rows of zeros or without finite elements have none. Then
 *
 * - bounds[0, t, h] = max s_k, a sink being one more score; +inf where a score is not finite (such a key counts here
 *   alone),
 * - bounds[1, t, h] = max (s_k + e_k), rounded to f32,
 * - bounds[2, t, h] = max e_k,
 *
 * and -inf where there is nothing. Maxima know no order: the largest of each over all shards (an all-reduce by max) are
 * the bounds of the whole context, with the same bits however it is dealt. The score of a query and a key has the same
 * bits in every call: whatever is in the batch, wherever the key lies.
 */
export type AttentionBoundsArgs = UnplannedAttentionBoundsArgs | PlannedAttentionBoundsArgs;

/** With a step that is checked in this call. */
export interface UnplannedAttentionBoundsArgs extends AttentionBoundsOperands, UnplannedStep {}

/** With a step that was checked before, by `planAttention`. */
export interface PlannedAttentionBoundsArgs extends AttentionBoundsOperands, PlannedStep {}

/** What attentionBounds reads and writes. */
export interface AttentionBoundsOperands extends AttentionInputs {
  /** [3, T, Hq], f32. Must not overlap the inputs. */
  readonly bounds: Operand;
  /** true: the maxima go on from what `bounds` holds, as for chunks of a context. Default false. */
  readonly continues?: boolean;
  /**
   * Where scores are kept for `latticeSums` over the same inputs [T, Hq, K], f32, of stride 1 in its last dimension: K
   * is at least the number of keys that any token sees here. They lie in the memory of the caches; what is in them is
   * the backend's affair. Default: none, and latticeSums computes them again, with the same bits.
   */
  readonly scores?: Operand;
}

/** What every backend computes from, after the checks. */
export interface AttentionBoundsPlan extends AttentionInputPlan {
  readonly continues: boolean;
}

/** Throws ArgumentError unless the arguments fit the contract; returns what to compute. */
export function planAttentionBounds(args: AttentionBoundsArgs): AttentionBoundsPlan {
  const name = "attentionBounds";
  const plan = planAttentionInputs(name, args);
  const { bounds, scores, continues = false } = args;
  expectFlag(name, "continues", continues);
  expectShape(name, "bounds", bounds, [3, plan.tokens, plan.queryHeads]);
  expectDType(name, "bounds", bounds, ["f32"]);
  expectApartFromInputs(name, { bounds }, args, plan.table.tensor);
  if (scores !== undefined) {
    checkKeptScores(name, scores, plan);
    expectApartFromInputs(name, { scores }, args, plan.table.tensor);
    expectApart(name, "scores", scores, "bounds", bounds);
  }
  return { ...plan, continues };
}
