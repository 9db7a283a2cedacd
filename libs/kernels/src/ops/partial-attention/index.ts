import type { VisibleKeys } from "./attention-plan.ts";
import { checkContinuedSums, type ContinuedSums } from "./continued-sums.ts";
import {
  type AttentionInputPlan,
  type AttentionInputs,
  expectApartFromInputs,
  type PlannedStep,
  planAttentionInputs,
  type UnplannedStep,
  visibleKeys,
} from "./attention-inputs.ts";
import { expectDType, expectShape, type Operand } from "../../operand.ts";
import { expectApartOrInOwnSums } from "./results-in-sums.ts";

/**
 * Attention of some query tokens over the part of their sequences' keys that one shard of a paged KV cache holds,
 * with the log-sum-exp that lets partial results be merged exactly.
 *
 * For query token t (sequence b, position p) and head h, over the stored positions k with p - window < k <= p: s_k =
 * scale * q.key_k, then softcap * tanh(s_k / softcap) if a softcap is given; lse = ln(sum_k exp(s_k)); out = sum_k
 * exp(s_k - lse) * value_k. No visible key gives out 0 and lse -inf. Arithmetic in f32; on a GPU's matrix units (an f16
 * cache and groups of 4 query heads or more) with weights rounded to f16, a relative error of at most 2^-11 each. Pages
 * and slots that no visible position maps to are never read into the result, whatever they hold.
 *
 * Nothing that is not finite is hidden: a visible key whose score is NaN or infinite in f32 makes the row's out and lse
 * NaN (a softcap bounds an infinite score, so that it is a number, but for f16 caches on matrix units); a value that is
 * not finite makes its column so, however small the key's weight, and leaves lse alone.
 *
 * An attention sink is a logit of its head that joins the denominator like a key whose value is 0: it counts in lse,
 * for every token but padding (position -1). Of the shards of a context exactly one must be given the sinks.
 *
 * Causal masking of several query tokens per sequence follows from their positions: tokens up to each position must
 * have been written before. Source: FlashAttention-2 / flash decoding; vLLM's paged attention for the cache layout.
 */
export type PartialAttentionArgs = UnplannedAttentionArgs | PlannedAttentionArgs;

/** With a step that is checked in this call. */
export interface UnplannedAttentionArgs extends AttentionOperands, UnplannedStep {}

/** With a step that was checked before, by `planAttention`. */
export interface PlannedAttentionArgs extends AttentionOperands, PlannedStep {}

/** What partialAttention reads and writes, and how, on one layer. */
export interface AttentionOperands extends AttentionInputs {
  /**
   * Sums that go on from call to call; not on backends without a `sumsWidth`. Default: the call sums all that it sees.
   */
  readonly sums?: ContinuedSums;
  /** [T, Hq, Dv], f32. Must not overlap the inputs. */
  readonly out: Operand;
  /** Natural-log LSE [T, Hq], f32. Must not overlap the inputs. */
  readonly lse: Operand;
}

/** What every backend computes from, after the checks. */
export interface PartialAttentionPlan extends AttentionInputPlan {
  /** undefined when they begin and end in the call. */
  readonly sums: ContinuedSums | undefined;
}

/** Throws ArgumentError unless the arguments fit the contract; returns what to compute. */
export function planPartialAttention(args: PartialAttentionArgs): PartialAttentionPlan {
  const name = "partialAttention";
  const plan = planAttentionInputs(name, args);
  const { tokens, queryHeads, valueDim, table } = plan;
  const { query, keyCache, valueCache, keyScaleCache, valueScaleCache, sums, out, lse } = args;
  expectShape(name, "out", out, [tokens, queryHeads, valueDim]);
  expectDType(name, "out", out, ["f32"]);
  expectShape(name, "lse", lse, [tokens, queryHeads]);
  expectDType(name, "lse", lse, ["f32"]);
  expectApartFromInputs(name, { out, lse }, args, table.tensor);
  if (sums !== undefined) {
    const caches = { keyCache, valueCache, keyScaleCache, valueScaleCache };
    checkContinuedSums(name, sums, [tokens, queryHeads], { query, ...caches, blockTable: table.tensor });
    expectApartOrInOwnSums(name, "out", out, sums.state);
    expectApartOrInOwnSums(name, "lse", lse, sums.state);
  }
  return { ...plan, sums };
}

/**
 * The check of the plan of arguments whose operands were checked before.
 * @throws ArgumentError for a plan of another size, UseAfterFree for one that was freed
 */
export function checkAttentionPlan(args: PlannedAttentionArgs): VisibleKeys {
  const [numBlocks = 0, blockSize = 0] = args.keyCache.shape;
  return visibleKeys("partialAttention", args, args.query.shape[0] ?? 0, { numBlocks, blockSize });
}

/**
 * What {@link planPartialAttention} would return for arguments with the operands of ones that it has checked.
 * @param known what it returned for those
 * @throws as {@link checkAttentionPlan}
 */
export function replanPartialAttention(args: PlannedAttentionArgs, known: PartialAttentionPlan): PartialAttentionPlan {
  const { sequences, starts, ends, table } = checkAttentionPlan(args);
  return { ...known, sequences, starts, ends, table, planned: args.plan };
}
