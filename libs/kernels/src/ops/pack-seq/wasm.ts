import { copyStrided, fillStrided, reserveForCopy } from "../../wasm/strided-copy.ts";
import type { KernelContext } from "../../context.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { checkPackSeq, type PackSeqArgs } from "./index.ts";
import { padBits } from "./pad-bits.ts";

/** packSeq by bulk copies: one copy and one fill per sequence when the rows are contiguous. */
export function packSeqWasm(memories: WasmMemories, _context: KernelContext, args: PackSeqArgs): void {
  const padValue = checkPackSeq(args);
  const kernels = memories.ofResult("packSeq", "out", args.out);
  const x = kernels.input("packSeq", "x", args.x);
  const out = kernels.output("packSeq", "out", args.out);
  const bits = padBits(x.dtype, padValue);
  const longest = out.dim(1);
  reserveForCopy(kernels, x.rank);
  let start = 0;
  for (let sequence = 0; sequence < args.lengths.length; sequence++) {
    const length = args.lengths[sequence] ?? 0;
    const rows = out.select(0, sequence);
    copyStrided(kernels, x.slice(0, start, start + length), rows.slice(0, 0, length));
    if (length < longest) fillStrided(kernels, rows.slice(0, length, longest), bits);
    start += length;
  }
}
