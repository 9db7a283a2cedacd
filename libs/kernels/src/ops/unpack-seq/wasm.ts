import { copyStrided, reserveForCopy } from "../../wasm/strided-copy.ts";
import type { KernelContext } from "../../context.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { checkUnpackSeq, type UnpackSeqArgs } from "./index.ts";

/** unpackSeq by bulk copies: one per sequence when the rows are contiguous. */
export function unpackSeqWasm(memories: WasmMemories, _context: KernelContext, args: UnpackSeqArgs): void {
  checkUnpackSeq(args);
  const kernels = memories.ofResult("unpackSeq", "out", args.out);
  const packed = kernels.input("unpackSeq", "packed", args.packed);
  const out = kernels.output("unpackSeq", "out", args.out);
  reserveForCopy(kernels, packed.rank);
  let start = 0;
  for (let sequence = 0; sequence < args.lengths.length; sequence++) {
    const length = args.lengths[sequence] ?? 0;
    copyStrided(kernels, packed.select(0, sequence).slice(0, 0, length), out.slice(0, start, start + length));
    start += length;
  }
}
