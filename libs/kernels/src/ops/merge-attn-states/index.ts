import { ArgumentError, describe, describeName } from "@lockstep/tensor";
import { expectArguments, expectDType, expectShape, FLOATS, type Operand } from "../../operand.ts";
import { expectApart, expectWritable } from "../../overlapping-operands.ts";
import { checkNonFinite, type LseBase, type NonFinite } from "../correct-attn-out/index.ts";

/**
 * Merges N partial attention states over disjoint keys into one: with m and lse as in correctAttnOut, out = sum_i
 * base^(lse_i - lse) * outs_i, folded in the order given, in f32. A state whose LSE is -inf is empty, and its output is
 * ignored whatever it holds; all empty gives 0 and -inf. In the mode "original" an LSE of NaN or +inf counts as -inf
 * too, and the output of a state whose factor is 0 in f32 is ignored as well; see {@link NonFinite}. Factors below the
 * smallest normal f32 may count as 0.
 * Source: FlashAttention split-KV reduction; "Cascade attention" merge_state of FlashInfer.
 */
export interface MergeAttnStatesArgs {
  /**
   * One or more partial outputs [T, H, D], all of one dtype (f32, f16, bf16), any strides; on a GPU without gaps, or
   * some heads of larger tensors, in one buffer at equal distances.
   */
  readonly outs: readonly Operand[];
  /** Their LSEs [T, H], f32, any strides; as many as `outs`. */
  readonly lses: readonly Operand[];
  /** Base of the LSEs. Default "e". */
  readonly base?: LseBase;
  /** Default "original". */
  readonly nonFinite?: NonFinite;
  /** Merged output [T, H, D], f32, f16 or bf16 (rounded once, at the end). Must not overlap the inputs. */
  readonly out: Operand;
  /** Merged LSE [T, H], f32, in `base`. Must not overlap the inputs. */
  readonly lse?: Operand;
}

/** Throws ArgumentError unless the arguments fit the contract. */
export function checkMergeAttnStates(args: MergeAttnStatesArgs): void {
  const name = "mergeAttnStates";
  expectArguments(name, args);
  const { outs, lses, out, lse } = args;
  if (!Array.isArray(outs)) throw new ArgumentError(name, "outs", "an array of tensors", describe(outs));
  if (!Array.isArray(lses)) throw new ArgumentError(name, "lses", "an array of tensors", describe(lses));
  const first = outs[0];
  if (first === undefined) throw new ArgumentError(name, "outs", "one or more partial outputs", "none");
  if (lses.length !== outs.length) {
    throw new ArgumentError(name, "lses", `${outs.length} LSEs, one per partial output`, String(lses.length));
  }
  expectShape(name, "outs[0]", first, [null, null, null]);
  expectDType(name, "outs[0]", first, FLOATS);
  const [tokens = 0, heads = 0] = first.shape;
  for (const [index, state] of outs.entries()) {
    expectShape(name, `outs[${index}]`, state, first.shape);
    expectDType(name, `outs[${index}]`, state, [first.dtype]);
  }
  for (const [index, state] of lses.entries()) {
    expectShape(name, `lses[${index}]`, state, [tokens, heads]);
    expectDType(name, `lses[${index}]`, state, ["f32"]);
  }
  expectShape(name, "out", out, first.shape);
  expectDType(name, "out", out, FLOATS);
  if (lse !== undefined) {
    expectShape(name, "lse", lse, [tokens, heads]);
    expectDType(name, "lse", lse, ["f32"]);
  }
  if (args.base !== undefined && args.base !== "e" && args.base !== "2") {
    throw new ArgumentError(name, "base", '"e" or "2"', describeName(args.base));
  }
  expectWritable(name, "out", out);
  if (lse !== undefined) {
    expectWritable(name, "lse", lse);
    expectApart(name, "lse", lse, "out", out);
  }
  for (const [argument, inputs] of [
    ["outs", outs],
    ["lses", lses],
  ] as const) {
    for (const input of inputs) {
      expectApart(name, "out", out, argument, input);
      if (lse !== undefined) expectApart(name, "lse", lse, argument, input);
    }
  }
  checkNonFinite(name, args.nonFinite);
}
