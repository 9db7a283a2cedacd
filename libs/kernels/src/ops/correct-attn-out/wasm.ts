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
  const out = expectHeapTensor(name, "out", args.out, heap);
  const lses = expectHeapTensor(name, "lses", args.lses, heap);
  const correctedOut = expectHeapTensor(name, "correctedOut", args.correctedOut, heap);
  const lse = expectHeapTensor(name, "lse", args.lse, heap);
  const [ranks = 0] = lses.shape;
  const [tokens = 0, heads = 0, dim = 0] = out.shape;
  const kernel = context.get(`${name} ${out.dtype}`, () => kernels.kernel(`${name}_${out.dtype}`));
  const { pointer, ints } = kernels.reserve((ranks + 2) * STATE_WORDS * 4);
  const ranksLses = Array.from({ length: ranks }, (_, rank) => lses.select(0, rank));
  const even = rowsAreEven([out, correctedOut, lse, ranksLses[0]]);
  for (const [rank, rankLse] of ranksLses.entries()) writeState(ints, rank, undefined, rankLse, even);
  writeState(ints, ranks, out, ranksLses[args.rank], even);
  writeState(ints, ranks + 1, correctedOut, lse, even);
  const grid = even ? [1, tokens * heads] : [tokens, heads];
  kernel(pointer, ranks, ...grid, dim, args.base === "2" ? 1 : 0, args.nonFinite === "propagate" ? 1 : 0);
}
