import type { KernelContext } from "../../context.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { continuedOutput, runPass } from "../partial-attention/wasm-pass.ts";
import { type LatticeSumsArgs, planLatticeSums } from "./index.ts";

/** latticeSums by `lattice-sums.as.ts`. */
export function latticeSumsWasm(memories: WasmMemories, context: KernelContext, args: LatticeSumsArgs): void {
  const name = "latticeSums";
  const plan = planLatticeSums(args);
  const kernels = memories.ofCache(name, "keyCache", args.keyCache);
  const scores = args.scores === undefined ? undefined : kernels.resident(name, "scores", args.scores);
  if (plan.tokens === 0 || plan.queryHeads === 0) return;
  const bounds = kernels.input(name, "bounds", args.bounds);
  const sums = continuedOutput(name, "sums", kernels, args.sums, plan.continues);
  runPass(name, kernels, context, args, plan, { bounds, scores, sums });
}
