import { ArgumentError, describe, Tensor } from "@lockstep/tensor";
import type { PreparedAttention } from "../prepared-ops.ts";
import type { KernelContext } from "../../context.ts";
import type { PagedCacheSize } from "../../kv/paged-cache-size.ts";
import { isHeapTensorOf } from "../../operand.ts";
import type { WasmFunction, WasmKernels } from "../../wasm/wasm-kernels.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { AttentionPlan, visibleOfPlan } from "./attention-plan.ts";
import { type PlannedAttentionArgs, planPartialAttention } from "./index.ts";
import {
  type AttentionLayout,
  layOutAttention,
  placeAttentionAreas,
  writeAttentionTable,
  writeVisibleKeys,
} from "./wasm.ts";

const NAME = "partialAttention";

/** The kernel's parameters in memory of their own; its areas are the scratch memory of all ops. */
class PreparedAttentionWasm implements PreparedAttention {
  readonly #kernels: WasmKernels;
  readonly #kernel: WasmFunction;
  readonly #checkOpen: () => void;
  readonly #operands: readonly (readonly [argument: string, tensor: Tensor])[];
  readonly #size: PagedCacheSize;
  readonly #tokens: number;
  readonly #layout: AttentionLayout;
  readonly #memory: Tensor;
  readonly #ints: Int32Array;
  #areas = -1;

  constructor(
    kernels: WasmKernels,
    kernel: WasmFunction,
    args: PlannedAttentionArgs,
    resident: Readonly<Record<"query" | "keyCache" | "valueCache" | "out" | "lse", Tensor>>,
    scales: { readonly keyRowScales: Tensor | undefined; readonly valueRowScales: Tensor | undefined },
    checkOpen: () => void,
  ) {
    const plan = planPartialAttention(args);
    const { keyCache } = resident;
    this.#kernels = kernels;
    this.#kernel = kernel;
    this.#checkOpen = checkOpen;
    this.#operands = Object.entries(resident);
    this.#size = { numBlocks: keyCache.dim(0), blockSize: keyCache.dim(1) };
    this.#tokens = plan.tokens;
    this.#layout = layOutAttention(plan, keyCache.dim(2), false);
    this.#memory = Tensor.empty(kernels.heap, "i32", [this.#layout.tableBytes >> 2]);
    this.#ints = this.#memory.i32;
    const { buffer, byteOffset, length } = this.#ints;
    const floats = new Float32Array(buffer, byteOffset, length);
    const operands = { ...resident, ...scales };
    writeAttentionTable(this.#ints, floats, this.#memory.byteOffset, plan, operands, this.#layout);
  }

  attend(plan: AttentionPlan): void {
    this.#checkOpen();
    const { tokens, table } = visibleOfPlan(NAME, plan, this.#size);
    if (tokens !== this.#tokens) {
      throw new ArgumentError(NAME, "plan", `one of ${this.#tokens} query tokens`, `one of ${tokens}`);
    }
    if (plan.heap.id !== this.#kernels.heap.id) {
      throw new ArgumentError(NAME, "plan", `one in heap ${this.#kernels.heap.id}`, `one in ${plan.heap.id}`);
    }
    this.#memory.assertUsable(NAME);
    for (let index = 0; index < this.#operands.length; index++) {
      const operand = this.#operands[index];
      operand?.[1].assertUsable(NAME, operand[0]);
    }
    const { pointer } = this.#kernels.reserve(this.#layout.areaBytes);
    if (pointer !== this.#areas) {
      placeAttentionAreas(this.#ints, pointer, this.#layout);
      this.#areas = pointer;
    }
    writeVisibleKeys(this.#ints, plan.byteOffset, tokens, table);
    this.#kernel(this.#memory.byteOffset);
  }

  free(): void {
    if (!this.#memory.isFreed) this.#memory.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

/**
 * Checks the arguments and writes them down for the kernel. Undefined where an operand lies in another memory than the
 * caches, sums go on from call to call, or there is nothing to attend for.
 * @param checkOpen throws when the backend is closed
 * @throws ArgumentError, HeapExhausted
 */
export function prepareAttentionWasm(
  memories: WasmMemories,
  context: KernelContext,
  args: PlannedAttentionArgs,
  checkOpen: () => void,
): PreparedAttention | undefined {
  const { tokens, queryHeads, sums } = planPartialAttention(args);
  if (!AttentionPlan.isPlan(args.plan)) {
    throw new ArgumentError(NAME, "plan", "what planAttention returned", describe(args.plan));
  }
  if (tokens === 0 || queryHeads === 0 || sums !== undefined) return undefined;
  const kernels = memories.ofCache(NAME, "keyCache", args.keyCache);
  const { heap } = kernels;
  const { query, keyCache, valueCache, out, lse, keyScaleCache, valueScaleCache } = args;
  if (args.plan.heap.id !== heap.id) return undefined;
  if (!isHeapTensorOf(heap, query) || !isHeapTensorOf(heap, out) || !isHeapTensorOf(heap, lse)) return undefined;
  if (!isHeapTensorOf(heap, keyCache) || !isHeapTensorOf(heap, valueCache)) return undefined;
  const keyRowScales = isHeapTensorOf(heap, keyScaleCache) ? keyScaleCache : undefined;
  const valueRowScales = isHeapTensorOf(heap, valueScaleCache) ? valueScaleCache : undefined;
  if (keyRowScales !== keyScaleCache || valueRowScales !== valueScaleCache) return undefined;
  const kernel = kernels.get(context, `${NAME}_${keyCache.dtype}`);
  const resident = { query, keyCache, valueCache, out, lse };
  return new PreparedAttentionWasm(kernels, kernel, args, resident, { keyRowScales, valueRowScales }, checkOpen);
}
