import { ArgumentError, type DType, describe, formatShape, isFloatDType } from "@lockstep/tensor";
import {
  expectArguments,
  expectDType,
  expectInteger,
  expectOperand,
  expectShape,
  type Operand,
} from "../../operand.ts";
import { expectApart, expectWritable } from "../../overlapping-operands.ts";
import { checkLengths } from "./lengths.ts";

/**
 * Packs sequences that lie one after another into a padded batch: x [T, ...] -> out [B, Lmax, ...], `padValue` beyond
 * each length. Rows of x beyond sum(lengths) are ignored. Elements are moved bit for bit.
 * Source: `pack_seq_triton` of vllm.v1.attention.ops.common.
 */
export interface PackSeqArgs {
  /** Sequences one after another [T, ...], any dtype, any strides. */
  readonly x: Operand;
  /** Length of each of the B sequences, each 0 or more; their sum is at most T. */
  readonly lengths: ArrayLike<number>;
  /** Rounded to x's dtype. Default -inf for floats, 0 for integers and f8e4m3; a u8 takes 0 to 255. */
  readonly padValue?: number;
  /** [B, Lmax, ...] of x's dtype with Lmax = max(lengths); must not overlap x. */
  readonly out: Operand;
  /** Rows per workgroup, a tuning hint that never changes the result. Default 64. */
  readonly blockT?: number;
  /** Columns per workgroup, a tuning hint that never changes the result. Default 64. */
  readonly blockD?: number;
}

/** Throws ArgumentError unless the arguments fit the contract; returns the pad value to use. */
export function checkPackSeq(args: PackSeqArgs): number {
  const name = "packSeq";
  expectArguments(name, args);
  const { x, lengths, out } = args;
  expectOperand(name, "x", x);
  if (x.shape.length < 1) throw new ArgumentError(name, "x", "of at least one dimension", formatShape(x.shape));
  const { sum, max } = checkLengths(name, lengths);
  const rows = x.shape[0] ?? 0;
  if (sum > rows) {
    throw new ArgumentError(name, "lengths", `a sum of at most ${rows}, the rows of x`, `a sum of ${sum}`);
  }
  expectShape(name, "out", out, [lengths.length, max, ...x.shape.slice(1)]);
  expectDType(name, "out", out, [x.dtype]);
  expectInteger(name, "blockT", args.blockT ?? 64, 1, 65536);
  expectInteger(name, "blockD", args.blockD ?? 64, 1, 65536);
  const padValue = checkPadValue(name, x, args.padValue);
  expectWritable(name, "out", out);
  expectApart(name, "out", out, "x", x);
  return padValue;
}

const INTEGER_RANGES: Partial<Record<DType, readonly [low: number, high: number]>> = {
  u8: [0, 255],
  i8: [-128, 127],
  i32: [-(2 ** 31), 2 ** 31 - 1],
};

function checkPadValue(name: string, x: Operand, padValue: number | undefined): number {
  if (padValue !== undefined && typeof padValue !== "number") {
    throw new ArgumentError(name, "padValue", "a number", describe(padValue));
  }
  if (isFloatDType(x.dtype)) return padValue ?? Number.NEGATIVE_INFINITY;
  const value = padValue ?? 0;
  if (x.dtype === "f8e4m3") {
    if (Math.abs(value) > 448)
      throw new ArgumentError(name, "padValue", "from -448 to 448, or NaN, for f8e4m3", `${value}`);
    return value;
  }
  const [low, high] = INTEGER_RANGES[x.dtype] ?? [0, 2 ** 32 - 1];
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new ArgumentError(name, "padValue", `an integer from ${low} to ${high} for ${x.dtype}`, String(value));
  }
  return value;
}
