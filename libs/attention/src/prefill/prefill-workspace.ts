import type { AttentionOperands, Completion, Operand, SlotPlan } from "@lockstep/kernels";
import type { DType } from "@lockstep/tensor";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import type { Pair, RankRows } from "./chunk-rows.ts";

/**
 * Where a prefill step puts a chunk of its contexts: keys, values and, if they have some, the scales of their rows, in
 * the order of their positions.
 */
export class PrefillWorkspace {
  readonly #options: ResolvedOptions;
  readonly #caches: KvCaches;
  /** Elements, then scales of rows. */
  readonly #parts: Pair<Operand>[] = [];

  /**
   * Allocates blocks on the backend.
   * @throws HeapExhausted, DeviceError: nothing stays allocated then
   */
  constructor(options: ResolvedOptions, caches: KvCaches, blocks: number) {
    const { headDim, valueDim } = options.model;
    this.#options = options;
    this.#caches = caches;
    try {
      this.#add(blocks, options.cache.dtype, headDim, valueDim);
      if (options.cache.hasRowScales) this.#add(blocks, "f32", 1, 1);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Puts every rank's rows in their places, keys and values of a part in one op. */
  place(ranks: readonly RankRows[], slotPlans: readonly SlotPlan[]): Completion[] {
    return ranks.flatMap(({ elements, scales }, rank) => {
      const slotMapping = slotPlans[rank];
      if (slotMapping === undefined) return [];
      return [elements, scales].map((rows, part) => {
        const chunk = this.#parts[part];
        if (rows === undefined || chunk === undefined) return undefined;
        const keys = { key: rows.key, slotMapping, keyCache: chunk.key };
        if (rows.value === undefined || chunk.value === undefined) return this.#options.backend.writeKvCache(keys);
        return this.#options.backend.writeKvCache({ ...keys, value: rows.value, valueCache: chunk.value });
      });
    });
  }

  /** The chunk of a layer, as `partialAttention` takes it. */
  operands(layer: number): Pick<AttentionOperands, "keyCache" | "valueCache"> {
    const { valueDim } = this.#options.model;
    const [elements, scales] = this.#parts;
    if (elements === undefined) throw new RangeError("the workspace is closed");
    const cachesOfChunk = { keyCache: elements.key, valueCache: elements.value ?? elements.key.slice(3, 0, valueDim) };
    if (scales === undefined) return { ...cachesOfChunk, ...this.#caches.scales(layer) };
    const rowScales = { keyScaleCache: scales.key, valueScaleCache: scales.value ?? scales.key };
    return { ...cachesOfChunk, ...rowScales };
  }

  /** Frees the blocks. Idempotent. */
  close(): void {
    for (const { key, value } of this.#parts) {
      key.free();
      value?.free();
    }
    this.#parts.length = 0;
  }

  #add(blocks: number, dtype: DType, keyDim: number, valueDim: number): void {
    const { backend, model, cache } = this.#options;
    const { kvHeads, mla } = model;
    const key = backend.empty(dtype, [blocks, cache.blockSize, kvHeads, keyDim]);
    try {
      const value = mla ? undefined : backend.empty(dtype, [blocks, cache.blockSize, kvHeads, valueDim]);
      this.#parts.push({ key, value });
    } catch (error) {
      key.free();
      throw error;
    }
  }
}
