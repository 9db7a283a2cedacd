import type { KernelContext } from "../../context.ts";
import { expectHeapTensor } from "../../operand.ts";
import { rowsAreEven, STATE_WORDS, writeState } from "../../wasm/state-table.ts";
import type { WasmKernels } from "../../wasm/wasm-kernels.ts";
import { type CorrectAttnOutArgs, checkCorrectAttnOut } from "./index.ts";

/** correctAttnOut by `correct-attn-out.as.ts`. */
export function correctAttnOutWasm(kernels: WasmKernels, context: KernelContext, args: CorrectAttnOutArgs): void {
  checkCorrectAttnOut(args);
  const name = "correctAttnOut";
  const { heap } = kernels;
  const partialOut = expectHeapTensor(name, "partialOut", args.partialOut, heap);
  const lses = expectHeapTensor(name, "lses", args.lses, heap);
  const out = expectHeapTensor(name, "out", args.out, heap);
  const lse = expectHeapTensor(name, "lse", args.lse, heap);
  const [ranks = 0] = lses.shape;
  const [tokens = 0, heads = 0, dim = 0] = partialOut.shape;
  const kernel = context.get(`${name} ${partialOut.dtype}`, () => kernels.kernel(`${name}_${partialOut.dtype}`));
  const { pointer, ints } = kernels.reserve((ranks + 2) * STATE_WORDS * 4);
  const ranksLses = Array.from({ length: ranks }, (_, rank) => lses.select(0, rank));
  const even = rowsAreEven([partialOut, out, lse, ranksLses[0]]);
  for (const [rank, rankLse] of ranksLses.entries()) writeState(ints, rank, undefined, rankLse, even);
  writeState(ints, ranks, partialOut, ranksLses[args.rank], even);
  writeState(ints, ranks + 1, out, lse, even);
  const grid = even ? [1, tokens * heads] : [tokens, heads];
  kernel(pointer, ranks, ...grid, dim, args.base === "2" ? 1 : 0, args.nonFinite === "propagate" ? 1 : 0);
}
