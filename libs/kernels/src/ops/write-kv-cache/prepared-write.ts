import { ArgumentError, describe, Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../../context.ts";
import type { PagedCacheSize } from "../../kv/paged-cache-size.ts";
import { isHeapTensorOf, type Operand } from "../../operand.ts";
import type { WasmFunction, WasmKernels } from "../../wasm/wasm-kernels.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import type { PreparedWrite, WithRoom } from "../prepared-ops.ts";
import { checkWriteKvCache, type WriteKvCacheArgs } from "./index.ts";
import { SlotPlan } from "./slot-plan.ts";
import { writeView } from "./wasm.ts";
import { VIEW_TABLE } from "./wasm-table.ts";

const NAME = "writeKvCache";

/** Rows that go to a cache, and their scales where rows have such. */
interface Part {
  readonly argument: "key" | "value";
  readonly rows: Tensor;
  readonly cache: Tensor;
  readonly scales: Tensor | undefined;
  readonly factors: Float32Array | undefined;
}

/** The kernel's parameters for keys and for values, and the slots behind them, in memory of their own. */
class PreparedWriteWasm implements PreparedWrite {
  readonly #kernel: WasmFunction;
  readonly #withRoom: WithRoom;
  readonly #parts: readonly Part[];
  readonly #size: PagedCacheSize;
  readonly #tokens: number;
  readonly #memory: Tensor;
  readonly #slots: Int32Array;
  readonly #tables: readonly number[];
  readonly #slotsAt: number;

  constructor(kernels: WasmKernels, kernel: WasmFunction, parts: readonly Part[], withRoom: WithRoom) {
    const [first] = parts;
    if (first === undefined) throw new RangeError("there is nothing to write");
    const [tokens = 0, heads = 0] = first.rows.shape;
    this.#kernel = kernel;
    this.#withRoom = withRoom;
    this.#parts = parts;
    this.#size = { numBlocks: first.cache.dim(0), blockSize: first.cache.dim(1) };
    this.#tokens = tokens;
    const partWords = VIEW_TABLE.words + heads;
    this.#memory = Tensor.zeros(kernels.heap, "i32", [tokens + parts.length * partWords]);
    const ints = this.#memory.i32;
    const { byteOffset } = this.#memory;
    this.#slots = ints.subarray(0, tokens);
    this.#slotsAt = byteOffset;
    this.#tables = parts.map(({ rows, cache, scales, factors }, index) => {
      const at = tokens + index * partWords;
      const factorsAt = at + VIEW_TABLE.words;
      writeView(ints.subarray(at), rows, cache, byteOffset + 4 * factorsAt, scales);
      const floats = new Float32Array(ints.buffer, ints.byteOffset, ints.length);
      if (factors !== undefined) floats.set(factors, factorsAt);
      return byteOffset + 4 * at;
    });
  }

  write(plan: SlotPlan): void {
    this.#withRoom(() => this.#write(plan));
  }

  #write(plan: SlotPlan): void {
    if (!SlotPlan.isPlan(plan)) throw new ArgumentError(NAME, "slots", "a SlotPlan", describe(plan));
    const slots = SlotPlan.slotsOf(NAME, plan, this.#size);
    if (slots.length !== this.#tokens) {
      throw new ArgumentError(NAME, "slots", `${this.#tokens} slots, one per token`, String(slots.length));
    }
    this.#memory.assertUsable(NAME);
    for (let index = 0; index < this.#parts.length; index++) {
      const part = this.#parts[index];
      part?.rows.assertUsable(NAME, part.argument);
      part?.cache.assertUsable(NAME, `${part.argument}Cache`);
      part?.scales?.assertUsable(NAME, `${part.argument}ScaleCache`);
    }
    for (let token = 0; token < slots.length; token++) this.#slots[token] = slots[token] ?? -1;
    for (let index = 0; index < this.#tables.length; index++) this.#kernel(this.#tables[index] ?? 0, this.#slotsAt);
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
 * caches.
 * @param withRoom runs each step
 * @throws ArgumentError, HeapExhausted
 */
export function prepareWriteWasm(
  memories: WasmMemories,
  context: KernelContext,
  args: WriteKvCacheArgs,
  withRoom: WithRoom,
): PreparedWrite | undefined {
  const { keyFactors, valueFactors } = checkWriteKvCache(args);
  const kernels = memories.ofCache(NAME, "keyCache", args.keyCache);
  const parts: Part[] = [];
  const add = (
    argument: "key" | "value",
    rows: Operand | undefined,
    cache: Operand | undefined,
    scales: Operand | undefined,
    factors: Float32Array | undefined,
  ): boolean => {
    if (rows === undefined || cache === undefined) return true;
    const { heap } = kernels;
    if (!isHeapTensorOf(heap, rows) || !isHeapTensorOf(heap, cache)) return false;
    if (scales !== undefined && !isHeapTensorOf(heap, scales)) return false;
    parts.push({ argument, rows, cache, scales, factors });
    return true;
  };
  if (!add("key", args.key, args.keyCache, args.keyScaleCache, keyFactors)) return undefined;
  if (!add("value", args.value, args.valueCache, args.valueScaleCache, valueFactors)) return undefined;
  const kernel = kernels.get(context, `${NAME}_${args.key.dtype}_${args.keyCache.dtype}`);
  return new PreparedWriteWasm(kernels, kernel, parts, withRoom);
}
