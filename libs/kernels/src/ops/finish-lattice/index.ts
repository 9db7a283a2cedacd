import { expectArguments, expectDType, expectShape, FLOATS, type Operand } from "../../operand.ts";
import { expectApart, expectWritable } from "../../overlapping-operands.ts";
import { expectSums } from "../lattice-sums/index.ts";

/**
 * The end of world-invariant attention: outputs and LSEs of the sums of all ranks.
 *
 * With m the first of a row's bounds, q the step of its lattice (see `latticeSums`), k_c its sums and k its sum of
 * weights: out_c = q * k_c / (2^-26 * k), computed in float64 and rounded once (on webgpu: in f32); lse = ln 2 * m +
 * ln(2^-26 * k). No key and no sink gives out 0 and lse -inf. Where m is +inf (a score was not finite), out and lse are
 * NaN; where the words of a column say that a value was not finite, it is NaN and leaves lse alone.
 */
export interface FinishLatticeArgs {
  /** Bounds of the whole context [3, T, H], f32. */
  readonly bounds: Operand;
  /** Sums of the whole context [T, H, Dv + 1, 2], i32, of strides 2 and 1 in its last dimensions: of all ranks. */
  readonly sums: Operand;
  /** [T, H, Dv], f32, f16 or bf16. Must not overlap the inputs. */
  readonly out: Operand;
  /** Natural-log LSE [T, H], f32. Must not overlap the inputs. */
  readonly lse: Operand;
}

/** Throws ArgumentError unless the arguments fit the contract. */
export function checkFinishLattice(args: FinishLatticeArgs): void {
  const name = "finishLattice";
  expectArguments(name, args);
  const { bounds, sums, out, lse } = args;
  expectShape(name, "bounds", bounds, [3, null, null]);
  expectDType(name, "bounds", bounds, ["f32"]);
  const [, tokens = 0, heads = 0] = bounds.shape;
  expectShape(name, "out", out, [tokens, heads, null]);
  expectDType(name, "out", out, FLOATS);
  expectSums(name, sums, [tokens, heads, (out.shape[2] ?? 0) + 1]);
  expectShape(name, "lse", lse, [tokens, heads]);
  expectDType(name, "lse", lse, ["f32"]);
  expectWritable(name, "out", out);
  expectWritable(name, "lse", lse);
  expectApart(name, "lse", lse, "out", out);
  for (const [argument, input] of Object.entries({ bounds, sums })) {
    expectApart(name, "out", out, argument, input);
    expectApart(name, "lse", lse, argument, input);
  }
}
