// One pass of world-invariant attention by a kernel: attentionBounds or latticeSums.
import type { Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../../context.ts";
import { expectHeapTensor, type Operand } from "../../operand.ts";
import { putView } from "../../wasm/put-view.ts";
import type { WasmKernels } from "../../wasm/wasm-kernels.ts";
import type { AttentionInputPlan, AttentionInputs } from "./attention-inputs.ts";
import { layOutAttention, placeAttentionAreas, residentStep, writeAttentionTable, writeStep } from "./wasm.ts";
import { ATTENTION_TABLE } from "./wasm-table.ts";

/** What a pass reads and writes beside the inputs of attention, in the memory of the caches. */
export interface PassOperands {
  readonly bounds: Tensor;
  /** Kept scores. */
  readonly scores: Tensor | undefined;
  readonly sums: Tensor | undefined;
}

/** Runs the kernel `name` of the caches' dtype over what there is to attend to. */
export function runPass(
  name: string,
  kernels: WasmKernels,
  context: KernelContext,
  args: AttentionInputs,
  plan: AttentionInputPlan & { readonly continues: boolean },
  { bounds, scores, sums }: PassOperands,
): void {
  const keyCache = kernels.resident(name, "keyCache", args.keyCache);
  const valueCache = kernels.resident(name, "valueCache", args.valueCache);
  const [keyRowScales, valueRowScales] = (["keyScaleCache", "valueScaleCache"] as const).map((argument) => {
    const scales = args[argument];
    return scales === undefined ? undefined : kernels.resident(name, argument, scales);
  });
  const step = residentStep(name, kernels, plan);
  const query = kernels.input(name, "query", args.query);
  const kernel = kernels.get(context, `${name}_${keyCache.dtype}`);
  const areas = sums === undefined ? { exponents: true } : { sumBytes: 8, rowSums: true };
  const layout = layOutAttention(plan, keyCache.dim(2), step.planned === undefined, areas);
  const { pointer, ints, floats } = kernels.reserve(layout.tableBytes + layout.areaBytes);
  const operands = { query, keyCache, valueCache, out: undefined, lse: undefined, keyRowScales, valueRowScales };
  writeAttentionTable(ints, floats, pointer, plan, operands, layout);
  placeAttentionAreas(ints, pointer + layout.tableBytes, layout);
  writeStep(ints, pointer, plan, step, layout);
  const { at } = ATTENTION_TABLE;
  putView(ints, at.BOUNDS, bounds, 3);
  putView(ints, at.KEPT, scores, 2);
  putView(ints, at.LATTICE, sums, 2);
  ints[at.CONTINUES] = plan.continues ? 1 : 0;
  kernel(pointer);
}

/** An operand that a pass writes, and reads before where it goes on. @throws ArgumentError, HeapExhausted */
export function continuedOutput(
  name: string,
  argument: string,
  kernels: WasmKernels,
  operand: Operand,
  continues: boolean,
): Tensor {
  const target = expectHeapTensor(name, argument, operand);
  const there = kernels.output(name, argument, target);
  if (continues && there !== target) there.copyFrom(target);
  return there;
}
