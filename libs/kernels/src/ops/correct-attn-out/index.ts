import { ArgumentError, describeName } from "@lockstep/tensor";
import { expectArguments, expectDType, expectInteger, expectShape, FLOATS, type Operand } from "../../operand.ts";
import { expectApart, expectApartOrSame, expectWritable } from "../../overlapping-operands.ts";

/** Base of the logarithm in which LSEs are given and returned. */
export type LseBase = "e" | "2";

/**
 * What becomes of a NaN or an infinity.
 * - `original`: as the original module does, a NaN or +inf LSE counts as -inf, an empty shard; a row of factor 0 is
 *   exactly 0, whatever the partial output holds.
 * - `propagate`: only an LSE of -inf marks an empty shard, and only it is skipped. A NaN or +inf LSE of one shard makes
 *   the row's output and LSE NaN. A partial output is multiplied by its factor even where that is 0, so that what is
 *   not finite in it shows.
 */
export type NonFinite = "original" | "propagate";

/** Throws ArgumentError unless `nonFinite` is one of its values or left out. */
export function checkNonFinite(operation: string, nonFinite: NonFinite | undefined): void {
  if (nonFinite !== undefined && nonFinite !== "original" && nonFinite !== "propagate") {
    throw new ArgumentError(operation, "nonFinite", '"original" or "propagate"', describeName(nonFinite));
  }
}

/**
 * Scales one rank's partial attention output so that the sum over ranks is the attention over the whole context.
 *
 * m = max over ranks of the LSEs (a max of -inf counts as 0; for NaN and +inf see {@link NonFinite}); lse = m +
 * log_base(sum_i base^(lse_i - m)); factor = base^(lse_rank - lse), 0 where that exponent is NaN or +inf; out =
 * partialOut * factor. In the mode "original" it is exactly 0 where factor is 0, whatever `partialOut` holds there.
 * Arithmetic in f32; factors below the smallest normal f32 may count as 0.
 * Source: `_correct_dcp_attn_out_kernel` of vllm.v1.attention.ops.common.
 */
export interface CorrectAttnOutArgs {
  /** This rank's partial output [B, H, D], f32, f16 or bf16, any strides. */
  readonly partialOut: Operand;
  /** LSEs of all ranks [N, B, H], f32, any strides. */
  readonly lses: Operand;
  /** This rank's index within the N. */
  readonly rank: number;
  /** Default "e". */
  readonly base?: LseBase;
  /** Default "original". */
  readonly nonFinite?: NonFinite;
  /** Where the scaled output goes [B, H, D], of partialOut's dtype; may be it, must not overlap it otherwise. */
  readonly out: Operand;
  /** Where the LSE over all ranks goes [B, H], f32, in `base`. Must not overlap the others. */
  readonly lse: Operand;
}

/** Throws ArgumentError unless the arguments fit the contract. */
export function checkCorrectAttnOut(args: CorrectAttnOutArgs): void {
  const name = "correctAttnOut";
  expectArguments(name, args);
  const { partialOut, lses, out, lse } = args;
  expectShape(name, "partialOut", partialOut, [null, null, null]);
  expectDType(name, "partialOut", partialOut, FLOATS);
  const [batch = 0, heads = 0] = partialOut.shape;
  expectShape(name, "lses", lses, [null, batch, heads]);
  expectDType(name, "lses", lses, ["f32"]);
  expectInteger(name, "rank", args.rank, 0, (lses.shape[0] ?? 0) - 1);
  expectShape(name, "out", out, partialOut.shape);
  expectDType(name, "out", out, [partialOut.dtype]);
  expectShape(name, "lse", lse, [batch, heads]);
  expectDType(name, "lse", lse, ["f32"]);
  if (args.base !== undefined && args.base !== "e" && args.base !== "2") {
    throw new ArgumentError(name, "base", '"e" or "2"', describeName(args.base));
  }
  checkNonFinite(name, args.nonFinite);
  expectWritable(name, "out", out);
  expectWritable(name, "lse", lse);
  expectApartOrSame(name, "out", out, "partialOut", partialOut);
  expectApart(name, "out", out, "lses", lses);
  expectApart(name, "lse", lse, "partialOut", partialOut);
  expectApart(name, "lse", lse, "lses", lses);
  expectApart(name, "lse", lse, "out", out);
}
