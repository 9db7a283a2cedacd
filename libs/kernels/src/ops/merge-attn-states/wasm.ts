import type { KernelContext } from "../../context.ts";
import { rowsAreEven, STATE_WORDS, writeState } from "../../wasm/state-table.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { checkMergeAttnStates, type MergeAttnStatesArgs } from "./index.ts";

/** mergeAttnStates by `merge-attn-states.as.ts`. */
export function mergeAttnStatesWasm(memories: WasmMemories, context: KernelContext, args: MergeAttnStatesArgs): void {
  checkMergeAttnStates(args);
  const name = "mergeAttnStates";
  const kernels = memories.ofResult(name, "out", args.out);
  const outs = args.outs.map((out, index) => kernels.input(name, `outs[${index}]`, out));
  const lses = args.lses.map((lse, index) => kernels.input(name, `lses[${index}]`, lse));
  const out = kernels.output(name, "out", args.out);
  const lse = args.lse === undefined ? undefined : kernels.output(name, "lse", args.lse);
  const dtype = outs[0]?.dtype ?? "f32";
  const [tokens = 0, heads = 0, dim = 0] = out.shape;
  const kernel = kernels.get(context, `${name}_${dtype}_${out.dtype}`);
  const stateBytes = (outs.length + 1) * STATE_WORDS * 4;
  const { pointer, ints } = kernels.reserve(stateBytes + (outs.length + 1) * 28);
  const even = rowsAreEven([...outs, ...lses, out, lse]);
  for (const [index, state] of outs.entries()) writeState(ints, index, state, lses[index], even);
  writeState(ints, outs.length, out, lse, even);
  const grid = even ? [1, tokens * heads] : [tokens, heads];
  const propagate = args.nonFinite === "propagate" ? 1 : 0;
  kernel(pointer, outs.length, ...grid, dim, args.base === "2" ? 1 : 0, pointer + stateBytes, propagate);
}
