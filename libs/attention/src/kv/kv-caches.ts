import type { Completion, KernelBackend, Operand, PreparedWrite, SlotPlan, WriteKvCacheArgs } from "@lockstep/kernels";
import { ArgumentError, type DType, describe, type Tensor } from "@lockstep/tensor";
import { MOST_PREPARED_TOKENS, RepeatedOperands } from "../arguments/repeated-operands.ts";
import type { BlockCopy } from "./block-manager.ts";
import { expectFiniteRows } from "./finite-rows.ts";
import type { LayerScales } from "./kv-scales.ts";

/** What the caches of a rank are made for. */
export interface KvCacheShape {
  readonly backend: KernelBackend;
  readonly layers: number;
  /** Blocks that this rank stores; none when its share of all contexts is none. */
  readonly numBlocks: number;
  /** Tokens of a block on this rank. */
  readonly blockSize: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly valueDim: number;
  readonly dtype: DType;
  /** The values are the first columns of the keys: one buffer holds both. */
  readonly mla: boolean;
  /** Every token and KV head has scales of its own, kept beside the cache. */
  readonly hasRowScales: boolean;
  /** Scales that were given, of each layer; empty ones when none were. */
  readonly scales: readonly LayerScales[];
}

/** What a rank stores of every block: one layer's keys, say. */
export interface CachePart {
  /** `layers.0.key`, `layers.0.value`, `layers.0.key_scale`, `layers.0.value_scale`; with MLA keys only. */
  readonly name: string;
  /** Dtype of its elements. */
  readonly dtype: DType;
  /** Of one block: [blockSize, kvHeads, dim]. */
  readonly shape: readonly number[];
}

/** What is stored of every token: a row of one layer's keys, say. */
export interface RowPart {
  /** As of a {@link CachePart}. */
  readonly name: string;
  /** Dtype of its elements. */
  readonly dtype: DType;
  /** Of one row: [kvHeads, dim]. */
  readonly shape: readonly number[];
}

/** Scales of rows, as the kernels take them: both or neither. With MLA both are the keys' scales. */
export interface RowScales {
  /** Scales of keys [numBlocks, blockSize, kvHeads, 1], f32. */
  readonly keyScaleCache?: Operand;
  /** Scales of values [numBlocks, blockSize, kvHeads, 1], f32. */
  readonly valueScaleCache?: Operand;
}

/**
 * The paged KV caches of one rank, on the backend that attends. Each layer has two:
 * - keys [numBlocks, blockSize, kvHeads, headDim]
 * - values [numBlocks, blockSize, kvHeads, valueDim]; with MLA (multi-head latent attention) a view of the keys' first
 *   columns, which takes no memory
 *
 * A quantised cache whose tokens have scales of their own keeps them beside it [numBlocks, blockSize, kvHeads, 1], f32.
 */
export class KvCaches {
  readonly #shape: KvCacheShape;
  readonly #keys: Operand[] = [];
  readonly #values: Operand[] = [];
  /** Scales of the rows of keys, and of values; the same ones for MLA. Empty without scales per token. */
  readonly #keyScales: Operand[] = [];
  readonly #valueScales: Operand[] = [];
  readonly #prepared = new RepeatedOperands<PreparedWrite>();

  private constructor(shape: KvCacheShape) {
    this.#shape = shape;
  }

  /** Allocates zeroed caches: all of them or, when they do not fit, none. @throws HeapExhausted, DeviceError */
  static open(shape: KvCacheShape): KvCaches {
    const caches = new KvCaches(shape);
    const { backend, dtype, mla, hasRowScales } = shape;
    const places = [shape.numBlocks, shape.blockSize, shape.kvHeads];
    try {
      for (let layer = 0; layer < shape.layers; layer++) {
        const keys = backend.empty(dtype, [...places, shape.headDim]);
        caches.#keys.push(keys);
        caches.#values.push(mla ? keys.slice(3, 0, shape.valueDim) : backend.empty(dtype, [...places, shape.valueDim]));
        if (!hasRowScales) continue;
        const keyScales = backend.empty("f32", [...places, 1]);
        caches.#keyScales.push(keyScales);
        caches.#valueScales.push(mla ? keyScales : backend.empty("f32", [...places, 1]));
      }
    } catch (error) {
      caches.free();
      throw error;
    }
    return caches;
  }

  /** Bytes of one block, keys, values and their scales, over all layers. */
  get blockBytes(): number {
    const bytes = this.#memory.reduce((sum, cache) => sum + cache.byteLength, 0);
    return bytes / Math.max(1, this.#shape.numBlocks);
  }

  /** What is stored of every block, by names: see {@link CachePart}. Nothing where there are no blocks. */
  get parts(): CachePart[] {
    if (this.#shape.numBlocks === 0) return [];
    return [...this.#named].map(([name, { dtype, shape }]) => ({ name, dtype, shape: shape.slice(1) }));
  }

  /** What is stored of every token, by names, on every rank alike: also where there are no blocks. */
  get rowParts(): RowPart[] {
    return [...this.#named].map(([name, { dtype, shape }]) => ({ name, dtype, shape: shape.slice(2) }));
  }

  /** The cache [numBlocks, blockSize, kvHeads, dim] of a part. */
  part(part: string): Operand {
    const cache = this.#named.get(part);
    if (cache !== undefined) return cache;
    throw new ArgumentError("DcpAttention", "part", "the name of a part of the cache", describe(part));
  }

  /** Copies a part of a block into a heap tensor [1, blockSize, kvHeads, dim] of its dtype. */
  readBlock(part: string, block: number, target: Tensor): Completion {
    return this.#shape.backend.download(this.#block(part, block), target);
  }

  /** Replaces a part of a block by a heap tensor [1, blockSize, kvHeads, dim] of its dtype. */
  writeBlock(part: string, block: number, source: Tensor): Completion {
    return this.#shape.backend.upload(source, this.#block(part, block));
  }

  #block(part: string, block: number): Operand {
    return this.part(part).slice(0, block, block + 1);
  }

  /** All that was allocated, by names. */
  get #named(): Map<string, Operand> {
    const { layers, mla, hasRowScales } = this.#shape;
    const kinds = [
      ["key", this.#keys],
      ["value", mla ? [] : this.#values],
      ["key_scale", hasRowScales ? this.#keyScales : []],
      ["value_scale", hasRowScales && !mla ? this.#valueScales : []],
    ] as const;
    const named = new Map<string, Operand>();
    for (let layer = 0; layer < layers; layer++) {
      for (const [kind, caches] of kinds) {
        const cache = caches[layer];
        if (cache !== undefined) named.set(`layers.${layer}.${kind}`, cache);
      }
    }
    return named;
  }

  /** All that was allocated. */
  get #memory(): readonly Operand[] {
    const { mla } = this.#shape;
    const keys = [...this.#keys, ...this.#keyScales];
    return mla ? keys : [...keys, ...this.#values, ...this.#valueScales];
  }

  key(layer: number): Operand {
    return this.#cache(this.#keys, layer);
  }

  value(layer: number): Operand {
    return this.#cache(this.#values, layer);
  }

  /** Scales that were given for a layer's caches, as the kernels take them; empty when there are none. */
  scales(layer: number): LayerScales {
    return this.#shape.scales[layer] ?? {};
  }

  /** These scales of a layer, as `partialAttention` takes them; empty when there are none. */
  rowScales(layer: number): RowScales {
    const [keyScaleCache, valueScaleCache] = [this.#keyScales[layer], this.#valueScales[layer]];
    return keyScaleCache === undefined || valueScaleCache === undefined ? {} : { keyScaleCache, valueScaleCache };
  }

  /** Throws NonFiniteKeyValue when the cache is int8 and rows hold a NaN or an infinity. */
  checkFinite(layer: number, key: Operand, value: Operand | undefined): void {
    if (this.#shape.dtype !== "i8") return;
    for (const [name, rows] of [
      ["key", key],
      ["value", value],
    ] as const) {
      // Whatever else is wrong with them is for the write to say.
      if (rows?.place === "heap") expectFiniteRows(layer, name, rows);
    }
  }

  /**
   * Stores rows of new tokens at their slots.
   * @throws ArgumentError when there is no such layer, or values are missing, or given for MLA
   */
  write(layer: number, key: Operand, value: Operand | undefined, slotMapping: SlotPlan): Completion {
    const { backend } = this.#shape;
    // What is no layer is not remembered.
    this.key(layer);
    const prepared = isSmall(key) ? backend.prepared : undefined;
    const args = (): WriteKvCacheArgs => this.#writeArgs(layer, key, value, slotMapping);
    const known = prepared && this.#prepared.find(layer, key, value, undefined, () => prepared.prepareWrite(args()));
    if (known === undefined) return backend.writeKvCache(args());
    known.write(slotMapping);
    return undefined;
  }

  #writeArgs(layer: number, key: Operand, value: Operand | undefined, slotMapping: SlotPlan): WriteKvCacheArgs {
    this.checkValue(value);
    const keyCache = this.key(layer);
    const { keyScaleCache, valueScaleCache } = this.rowScales(layer);
    if (keyScaleCache !== undefined && valueScaleCache !== undefined) {
      this.#expectFloats(key);
      const keyArgs = { key, slotMapping, keyCache, keyScaleCache };
      if (value === undefined) return keyArgs;
      return { ...keyArgs, value, valueCache: this.value(layer), valueScaleCache };
    }
    const { keyScale, valueScale } = this.scales(layer);
    // Rows that are quantised already are moved as they are.
    const isScaled = keyScale !== undefined && key.dtype !== keyCache.dtype;
    const keys = isScaled ? { key, slotMapping, keyCache, keyScale } : { key, slotMapping, keyCache };
    if (value === undefined) return keys;
    const valueCache = this.value(layer);
    if (!isScaled || valueScale === undefined) return { ...keys, value, valueCache };
    return { ...keys, value, valueCache, valueScale };
  }

  /** Rows that are quantised already would need their scales with them. */
  #expectFloats(key: Operand): void {
    const { dtype } = this.#shape;
    if (key.dtype !== dtype) return;
    const expected = "f32, f16 or bf16 with scales per token (give kvScales for rows that are quantised already)";
    throw new ArgumentError("DcpAttention", "key", expected, dtype);
  }

  /** @throws ArgumentError unless values are given, or left out for MLA */
  checkValue(value: Operand | undefined): void {
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
   * Copies whole blocks in the caches of every layer, where they lie. A promise, when there is one, resolves when that
   * has completed; ops given to the same backend later see the copies without waiting for it.
   */
  copyBlocks(copies: readonly BlockCopy[]): Promise<void> | undefined {
    const pending: Promise<void>[] = [];
    if (copies.length === 0 || this.#shape.numBlocks === 0) return undefined;
    for (const cache of this.#memory) {
      for (const copy of copies) {
        const done = this.#copyBlock(cache, copy);
        if (done !== undefined) pending.push(done);
      }
    }
    return pending.length === 0 ? undefined : Promise.all(pending).then(() => undefined);
  }

  #copyBlock(cache: Operand, { from, to }: BlockCopy): Promise<void> | undefined {
    if (cache.place === "heap") {
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
    this.#prepared.free();
    for (const cache of this.#memory) cache.free();
    for (const caches of [this.#keys, this.#values, this.#keyScales, this.#valueScales]) caches.length = 0;
  }

  #cache(caches: readonly Operand[], layer: number): Operand {
    const cache = typeof layer === "number" ? caches[layer] : undefined;
    if (cache === undefined) {
      throw new ArgumentError("DcpAttention", "layer", `from 0 to ${this.#shape.layers - 1}`, describe(layer));
    }
    return cache;
  }
}

/** Whether rows are few enough to be prepared; false for what is none, which the op refuses. */
function isSmall(rows: Operand): boolean {
  const { shape = [] } = Object(rows) as Partial<Operand>;
  return (shape[0] ?? Number.POSITIVE_INFINITY) <= MOST_PREPARED_TOKENS;
}
