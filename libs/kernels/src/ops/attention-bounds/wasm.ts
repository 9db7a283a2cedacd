import type { KernelContext } from "../../context.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { continuedOutput, runPass } from "../partial-attention/wasm-pass.ts";
import { type AttentionBoundsArgs, planAttentionBounds } from "./index.ts";

/** attentionBounds by `attention-bounds.as.ts`. */
export function attentionBoundsWasm(memories: WasmMemories, context: KernelContext, args: AttentionBoundsArgs): void {
  const name = "attentionBounds";
  const plan = planAttentionBounds(args);
  const kernels = memories.ofCache(name, "keyCache", args.keyCache);
  const scores = args.scores === undefined ? undefined : kernels.resident(name, "scores", args.scores);
  if (plan.tokens === 0 || plan.queryHeads === 0) return;
  const bounds = continuedOutput(name, "bounds", kernels, args.bounds, plan.continues);
  runPass(name, kernels, context, args, plan, { bounds, scores, sums: undefined });
}
