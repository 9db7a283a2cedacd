import type { Completion, KernelBackend, Operand } from "@lockstep/kernels";
import { expectFiniteRows } from "./finite-rows.ts";
import { type LayerScales, layerScales, type KvScales } from "./kv-scales.ts";
import { ArgumentError, type DType, Tensor, describe } from "@lockstep/tensor";
import type { BlockCopy } from "./block-manager.ts";

/** What the caches of a rank are made for. */
export interface KvCacheShape {
  readonly backend: KernelBackend;
  readonly layers: number;
  readonly numBlocks: number;
  readonly blockSize: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly valueDim: number;
  readonly dtype: DType;
  /** The values are the first columns of the keys: one buffer holds both. */
  readonly mla: boolean;
  /** Of quantised caches. */
  readonly kvScales?: KvScales | readonly KvScales[];
}

/**
 * The paged KV caches of one rank, one pair of buffers for each layer, on the backend that attends: keys
 * [numBlocks, blockSize, kvHeads, headDim] and values [numBlocks, blockSize, kvHeads, valueDim]. For MLA (multi-head latent
 * attention) the values are a view of the keys' first columns and take no memory.
 */
export class KvCaches {
  readonly #shape: KvCacheShape;
  readonly #keys: Operand[] = [];
  readonly #values: Operand[] = [];
  readonly #scales: readonly LayerScales[];

  private constructor(shape: KvCacheShape) {
    this.#shape = shape;
    this.#scales = layerScales(shape.kvScales, shape.layers, shape.mla);
  }

  /** Allocates zeroed caches: all of them or, when they do not fit, none. @throws HeapExhausted, DeviceError */
  static open(shape: KvCacheShape): KvCaches {
    const caches = new KvCaches(shape);
    const { backend, dtype, mla } = shape;
    const places = [shape.numBlocks, shape.blockSize, shape.kvHeads];
    try {
      for (let layer = 0; layer < shape.layers; layer++) {
        const keys = backend.empty(dtype, [...places, shape.headDim]);
        caches.#keys.push(keys);
        caches.#values.push(mla ? keys.slice(3, 0, shape.valueDim) : backend.empty(dtype, [...places, shape.valueDim]));
      }
    } catch (error) {
      caches.free();
      throw error;
    }
    return caches;
  }

  /** Bytes of one block, keys and values, over all layers. */
  get blockBytes(): number {
    const { layers, numBlocks, mla } = this.#shape;
    const bytes = (this.#keys[0]?.byteLength ?? 0) + (mla ? 0 : (this.#values[0]?.byteLength ?? 0));
    return (bytes / numBlocks) * layers;
  }

  key(layer: number): Operand {
    return this.#cache(this.#keys, layer);
  }

  value(layer: number): Operand {
    return this.#cache(this.#values, layer);
  }

  /** Scales of a layer's caches, as `partialAttention` takes them; empty when they are not quantised. */
  scales(layer: number): LayerScales {
    return this.#scales[layer] ?? {};
  }

  /** Throws NonFiniteKeyValue when rows hold what an int8 cache has no pattern for. Every rank that looks at them throws. */
  checkFinite(layer: number, key: Tensor, value: Tensor | undefined): void {
    if (this.#shape.dtype !== "i8") return;
    for (const [name, rows] of [
      ["key", key],
      ["value", value],
    ] as const) {
      // Whatever else is wrong with them is for the write to say.
      if (rows instanceof Tensor) expectFiniteRows(layer, name, rows);
    }
  }

  /** Stores rows of new tokens at their slots. @throws ArgumentError when values are missing, or given for MLA */
  write(layer: number, key: Tensor, value: Tensor | undefined, slotMapping: Int32Array): Completion {
    this.checkValue(value);
    const { backend } = this.#shape;
    const keyCache = this.key(layer);
    const { keyScale, valueScale } = this.scales(layer);
    // Rows that are quantised already are moved as they are.
    const isScaled = keyScale !== undefined && key.dtype !== keyCache.dtype;
    const keys = isScaled ? { key, slotMapping, keyCache, keyScale } : { key, slotMapping, keyCache };
    if (value === undefined) return backend.writeKvCache(keys);
    const valueCache = this.value(layer);
    if (!isScaled || valueScale === undefined) return backend.writeKvCache({ ...keys, value, valueCache });
    return backend.writeKvCache({ ...keys, value, valueCache, valueScale });
  }

  /** @throws ArgumentError unless values are given, or left out for MLA */
  checkValue(value: Tensor | undefined): void {
    const { mla } = this.#shape;
    if (mla === (value === undefined)) return;
    throw new ArgumentError(
      "DcpAttention",
      "value",
      mla ? "left out with mla, whose values are columns of the keys" : "given (only mla goes without values)",
      value === undefined ? "left out" : value.toString(),
    );
  }

  /**
   * Copies whole blocks in the caches of every layer, where they lie. Returns a promise when that has not completed yet; later
   * ops of the same backend see the copies all the same.
   */
  copyBlocks(copies: readonly BlockCopy[]): Promise<void> | undefined {
    const pending: Promise<void>[] = [];
    const caches = this.#shape.mla ? this.#keys : [...this.#keys, ...this.#values];
    for (const cache of caches) {
      for (const copy of copies) {
        const done = this.#copyBlock(cache, copy);
        if (done !== undefined) pending.push(done);
      }
    }
    return pending.length === 0 ? undefined : Promise.all(pending).then(() => undefined);
  }

  #copyBlock(cache: Operand, { from, to }: BlockCopy): Promise<void> | undefined {
    if (cache instanceof Tensor) {
      cache.select(0, to).copyFrom(cache.select(0, from));
      return undefined;
    }
    const { backend, blockSize } = this.#shape;
    const slots = (block: number): number[] => Array.from({ length: blockSize }, (_, at) => block * blockSize + at);
    const rows = backend.empty(cache.dtype, [blockSize, ...cache.shape.slice(2)]);
    const pending = [
      backend.gatherKvCache({ cache, slots: slots(from), rows }),
      backend.writeKvCache({ key: rows, slotMapping: slots(to), keyCache: cache }),
    ].filter((done) => done !== undefined);
    if (pending.length > 0) return Promise.all(pending).then(() => rows.free());
    rows.free();
    return undefined;
  }

  free(): void {
    if (!this.#shape.mla) for (const cache of this.#values) cache.free();
    for (const cache of this.#keys) cache.free();
    this.#keys.length = 0;
    this.#values.length = 0;
  }

  #cache(caches: readonly Operand[], layer: number): Operand {
    const cache = typeof layer === "number" ? caches[layer] : undefined;
    if (cache === undefined) {
      throw new ArgumentError("DcpAttention", "layer", `from 0 to ${this.#shape.layers - 1}`, describe(layer));
    }
    return cache;
  }
}
