import { ArgumentError, formatShape } from "@lockstep/tensor";
import {
  expectArguments,
  expectDType,
  expectInteger,
  expectList,
  expectOperand,
  expectShape,
  type Operand,
} from "../../operand.ts";
import { expectApart, expectWritable } from "../../overlapping-operands.ts";
import { checkLengths } from "../pack-seq/lengths.ts";

/**
 * The inverse of packSeq: packed [B, Lmax, ...] -> out [sum(lengths), ...]. Elements are moved bit for bit.
 * Source: `unpack_seq_triton` of vllm.v1.attention.ops.common.
 */
export interface UnpackSeqArgs {
  /** Padded batch [B, Lmax, ...], any dtype, any strides. */
  readonly packed: Operand;
  /** Length of each of the B sequences, from 0 to Lmax. */
  readonly lengths: ArrayLike<number>;
  /** [sum(lengths), ...] of packed's dtype; must not overlap packed. */
  readonly out: Operand;
  /** Rows per workgroup, a tuning hint that never changes the result. Default 64. */
  readonly blockT?: number;
  /** Columns per workgroup, a tuning hint that never changes the result. Default 64. */
  readonly blockD?: number;
}

/** Throws ArgumentError unless the arguments fit the contract. */
export function checkUnpackSeq(args: UnpackSeqArgs): void {
  const name = "unpackSeq";
  expectArguments(name, args);
  const { packed, lengths, out } = args;
  expectOperand(name, "packed", packed);
  expectList(name, "lengths", lengths);
  if (packed.shape.length < 2) {
    throw new ArgumentError(name, "packed", "of at least two dimensions", formatShape(packed.shape));
  }
  const [batch = 0, longest = 0, ...rest] = packed.shape;
  if (lengths.length !== batch) {
    throw new ArgumentError(name, "lengths", `${batch} lengths, one per sequence of packed`, `${lengths.length}`);
  }
  const { sum } = checkLengths(name, lengths, longest);
  expectShape(name, "out", out, [sum, ...rest]);
  expectDType(name, "out", out, [packed.dtype]);
  expectInteger(name, "blockT", args.blockT ?? 64, 1, 65536);
  expectInteger(name, "blockD", args.blockD ?? 64, 1, 65536);
  expectWritable(name, "out", out);
  expectApart(name, "out", out, "packed", packed);
}
