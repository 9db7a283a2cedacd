import type { KernelContext } from "../../context.ts";
import { rowsAreEven, STATE_WORDS, writeState } from "../../wasm/state-table.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { type CorrectAttnOutArgs, checkCorrectAttnOut } from "./index.ts";

/** correctAttnOut by `correct-attn-out.as.ts`. */
export function correctAttnOutWasm(memories: WasmMemories, context: KernelContext, args: CorrectAttnOutArgs): void {
  checkCorrectAttnOut(args);
  const name = "correctAttnOut";
  const kernels = memories.ofResult(name, "out", args.out);
  const partialOut = kernels.input(name, "partialOut", args.partialOut);
  const lses = kernels.input(name, "lses", args.lses);
  const out = kernels.output(name, "out", args.out);
  const lse = kernels.output(name, "lse", args.lse);
  const [ranks = 0] = lses.shape;
  const [tokens = 0, heads = 0, dim = 0] = partialOut.shape;
  const kernel = kernels.get(context, `${name}_${partialOut.dtype}`);
  const { pointer, ints } = kernels.reserve((ranks + 2) * STATE_WORDS * 4);
  const ranksLses = Array.from({ length: ranks }, (_, rank) => lses.select(0, rank));
  const even = rowsAreEven([partialOut, out, lse, ranksLses[0]]);
  for (const [rank, rankLse] of ranksLses.entries()) writeState(ints, rank, undefined, rankLse, even);
  writeState(ints, ranks, partialOut, ranksLses[args.rank], even);
  writeState(ints, ranks + 1, out, lse, even);
  const grid = even ? [1, tokens * heads] : [tokens, heads];
  kernel(pointer, ranks, ...grid, dim, args.base === "2" ? 1 : 0, args.nonFinite === "propagate" ? 1 : 0);
}
