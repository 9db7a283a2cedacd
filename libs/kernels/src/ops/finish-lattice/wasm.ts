import type { KernelContext } from "../../context.ts";
import { putView } from "../../wasm/put-view.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { checkFinishLattice, type FinishLatticeArgs } from "./index.ts";
import { FINISH_TABLE } from "./wasm-table.ts";

/** finishLattice by `finish-lattice.as.ts`. */
export function finishLatticeWasm(memories: WasmMemories, context: KernelContext, args: FinishLatticeArgs): void {
  checkFinishLattice(args);
  const name = "finishLattice";
  const kernels = memories.ofResult(name, "out", args.out);
  const bounds = kernels.input(name, "bounds", args.bounds);
  const sums = kernels.input(name, "sums", args.sums);
  const out = kernels.output(name, "out", args.out);
  const lse = kernels.output(name, "lse", args.lse);
  const kernel = kernels.get(context, `${name}_${out.dtype}`);
  const { pointer, ints } = kernels.reserve(FINISH_TABLE.words * 4);
  const { at } = FINISH_TABLE;
  putView(ints, at.BOUNDS, bounds, 3);
  putView(ints, at.LATTICE, sums, 2);
  putView(ints, at.OUT, out, 3);
  putView(ints, at.LSE, lse, 2);
  ints[at.TOKENS] = out.dim(0);
  ints[at.HEADS] = out.dim(1);
  ints[at.VALUE_DIM] = out.dim(2);
  kernel(pointer);
}
