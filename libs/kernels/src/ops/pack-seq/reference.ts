import { copyRaw, fillRaw } from "../../reference/raw-elements.ts";
import { expectHeapTensor } from "../../operand.ts";
import { checkPackSeq, type PackSeqArgs } from "./index.ts";
import { padBits } from "./pad-bits.ts";

/** packSeq, row by row. */
export function packSeqReference(args: PackSeqArgs): void {
  const padValue = checkPackSeq(args);
  const x = expectHeapTensor("packSeq", "x", args.x);
  const out = expectHeapTensor("packSeq", "out", args.out);
  const bits = padBits(x.dtype, padValue);
  let start = 0;
  for (let sequence = 0; sequence < args.lengths.length; sequence++) {
    const length = args.lengths[sequence] ?? 0;
    const rows = out.select(0, sequence);
    copyRaw(x.slice(0, start, start + length), rows.slice(0, 0, length));
    fillRaw(rows.slice(0, length, rows.dim(0)), bits);
    start += length;
  }
}
