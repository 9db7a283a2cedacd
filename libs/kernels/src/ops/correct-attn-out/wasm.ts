import type { KernelContext } from "../../context.ts";
import { expectHeapTensor } from "../../operand.ts";
import { STATE_WORDS, writeState } from "../../wasm/state-table.ts";
import type { WasmKernels } from "../../wasm/wasm-kernels.ts";
import { type CorrectAttnOutArgs, checkCorrectAttnOut } from "./index.ts";

/** correctAttnOut by `correct-attn-out.as.ts`. */
export function correctAttnOutWasm(kernels: WasmKernels, context: KernelContext, args: CorrectAttnOutArgs): void {
  checkCorrectAttnOut(args);
  const name = "correctAttnOut";
  const { heap } = kernels;
  const out = expectHeapTensor(name, "out", args.out, heap);
  const lses = expectHeapTensor(name, "lses", args.lses, heap);
  const correctedOut = expectHeapTensor(name, "correctedOut", args.correctedOut, heap);
  const lse = expectHeapTensor(name, "lse", args.lse, heap);
  const [ranks = 0] = lses.shape;
  const [tokens = 0, heads = 0, dim = 0] = out.shape;
  const kernel = context.get(`${name} ${out.dtype}`, () => kernels.kernel(`${name}_${out.dtype}`));
  const { pointer, ints } = kernels.reserve((ranks + 2) * STATE_WORDS * 4);
  for (let rank = 0; rank < ranks; rank++) writeState(ints, rank, undefined, lses.select(0, rank));
  writeState(ints, ranks, out, lses.select(0, args.rank));
  writeState(ints, ranks + 1, correctedOut, lse);
  kernel(pointer, ranks, tokens, heads, dim, args.base === "2" ? 1 : 0);
}
