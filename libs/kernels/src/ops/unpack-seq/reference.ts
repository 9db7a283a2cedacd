import { copyRaw } from "../../reference/raw-elements.ts";
import { expectHeapTensor } from "../../operand.ts";
import { checkUnpackSeq, type UnpackSeqArgs } from "./index.ts";

/** unpackSeq, sequence by sequence. */
export function unpackSeqReference(args: UnpackSeqArgs): void {
  checkUnpackSeq(args);
  const packed = expectHeapTensor("unpackSeq", "packed", args.packed);
  const out = expectHeapTensor("unpackSeq", "out", args.out);
  let start = 0;
  for (let sequence = 0; sequence < args.lengths.length; sequence++) {
    const length = args.lengths[sequence] ?? 0;
    copyRaw(packed.select(0, sequence).slice(0, 0, length), out.slice(0, start, start + length));
    start += length;
  }
}
