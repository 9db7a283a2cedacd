import { ArgumentError, Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../../context.ts";
import type { PagedCacheSize } from "../../kv/paged-cache-size.ts";
import { isHeapTensorOf, type Operand } from "../../operand.ts";
import type { WasmFunction, WasmKernels } from "../../wasm/wasm-kernels.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import type { PreparedAttention, WithRoom } from "../prepared-ops.ts";
import { type AttentionPlan, visibleOfPlan } from "./attention-plan.ts";
import { readSinks } from "./attention-inputs.ts";
import { type PartialAttentionPlan, type PlannedAttentionArgs, planPartialAttention } from "./index.ts";
import {
  type AttentionLayout,
  layOutAttention,
  placeAttentionAreas,
  type ResidentOperands,
  writeAttentionTable,
  writeSinks,
  writeVisibleKeys,
} from "./wasm.ts";

const NAME = "partialAttention";

/** Operands that must not be freed while steps go on, by their names. */
const OPERANDS = [
  "query",
  "keyCache",
  "valueCache",
  "keyScaleCache",
  "valueScaleCache",
  "sinks",
  "out",
  "lse",
] as const;

/** The kernel's parameters in memory of their own; its areas are the scratch memory of all ops. */
class PreparedAttentionWasm implements PreparedAttention {
  readonly #kernels: WasmKernels;
  readonly #kernel: WasmFunction;
  readonly #withRoom: WithRoom;
  readonly #operands: readonly (readonly [argument: string, operand: Operand])[];
  readonly #sinks: Tensor | undefined;
  readonly #size: PagedCacheSize;
  readonly #tokens: number;
  readonly #queryHeads: number;
  readonly #layout: AttentionLayout;
  readonly #memory: Tensor;
  readonly #ints: Int32Array;
  readonly #floats: Float32Array;
  #areas = -1;

  constructor(
    kernels: WasmKernels,
    kernel: WasmFunction,
    args: PlannedAttentionArgs,
    plan: PartialAttentionPlan,
    resident: ResidentOperands,
    withRoom: WithRoom,
  ) {
    const { keyCache } = resident;
    this.#kernels = kernels;
    this.#kernel = kernel;
    this.#withRoom = withRoom;
    this.#operands = OPERANDS.flatMap((argument) => {
      const operand = args[argument];
      return operand === undefined ? [] : [[argument, operand] as const];
    });
    this.#sinks = args.sinks;
    this.#size = { numBlocks: keyCache.dim(0), blockSize: keyCache.dim(1) };
    this.#tokens = plan.tokens;
    this.#queryHeads = plan.queryHeads;
    this.#layout = layOutAttention(plan, keyCache.dim(2), false);
    this.#memory = Tensor.empty(kernels.heap, "i32", [this.#layout.tableBytes >> 2]);
    this.#ints = this.#memory.i32;
    const { buffer, byteOffset, length } = this.#ints;
    this.#floats = new Float32Array(buffer, byteOffset, length);
    writeAttentionTable(this.#ints, this.#floats, this.#memory.byteOffset, plan, resident, this.#layout);
  }

  attend(plan: AttentionPlan): void {
    this.#withRoom(() => this.#attend(plan));
  }

  #attend(plan: AttentionPlan): void {
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
    // Their numbers may have changed since the last step.
    if (this.#sinks !== undefined) {
      writeSinks(this.#floats, readSinks(NAME, this.#sinks, this.#queryHeads), this.#layout.table);
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
 * @param withRoom runs each step
 * @throws ArgumentError, HeapExhausted
 */
export function prepareAttentionWasm(
  memories: WasmMemories,
  context: KernelContext,
  args: PlannedAttentionArgs,
  withRoom: WithRoom,
): PreparedAttention | undefined {
  const plan = planPartialAttention(args);
  if (plan.planned === undefined) {
    throw new ArgumentError(NAME, "plan", "what planAttention returned", "left out");
  }
  if (plan.tokens === 0 || plan.queryHeads === 0 || plan.sums !== undefined) return undefined;
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
  const resident = { query, keyCache, valueCache, out, lse, keyRowScales, valueRowScales };
  return new PreparedAttentionWasm(kernels, kernel, args, plan, resident, withRoom);
}
