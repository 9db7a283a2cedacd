import type { AttentionOperands, Operand, SlotPlan } from "@lockstep/kernels";
import { type Allocator, type DType, Tensor } from "@lockstep/tensor";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import type { PlannedChunk } from "./prefill-plan.ts";

/** Something of keys, and of values unless these are columns of the keys (MLA). */
interface Pair<T> {
  readonly key: T;
  readonly value: T | undefined;
}

/** Elements, or scales of rows: both travel alike. */
interface Part {
  /** Where a layer keeps them. */
  readonly stored: (layer: number) => Pair<Operand>;
  /** What this rank adds to a chunk. */
  readonly own: Pair<Tensor>;
  /** The whole chunk. */
  readonly chunk: Pair<Operand>;
}

/**
 * Where a prefill step gathers a chunk of its contexts from all ranks: keys, values and, if they have some, the scales
 * of their rows, in the order of their positions.
 */
export class PrefillWorkspace {
  readonly #options: ResolvedOptions;
  readonly #caches: KvCaches;
  readonly #parts: Part[] = [];

  /**
   * Allocates blocks on the backend, and from `scratch`, which the caller closes, this rank's rows of a chunk.
   * @throws HeapExhausted, DeviceError: nothing stays allocated on the backend then
   */
  constructor(options: ResolvedOptions, caches: KvCaches, blocks: number, scratch: Allocator) {
    const { headDim, valueDim } = options.model;
    this.#options = options;
    this.#caches = caches;
    try {
      const stored = (layer: number): Pair<Operand> => ({ key: caches.key(layer), value: caches.value(layer) });
      this.#add(stored, blocks, scratch, options.cache.dtype, headDim, valueDim);
      if (options.cache.hasRowScales) this.#add((layer) => scalesOf(caches, layer), blocks, scratch, "f32", 1, 1);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Bytes of `scratch` that this rank's rows take. */
  static scratchBytes(options: ResolvedOptions, blocks: number): number {
    const { kvHeads, headDim, valueDim, mla } = options.model;
    const columns = headDim + (mla ? 0 : valueDim) + (options.cache.hasRowScales ? 2 : 0);
    return rowsOfShard(options, blocks) * kvHeads * columns * 4 + 1024;
  }

  /** Fills the workspace with a chunk. Every rank of the DCP group calls it for every chunk, seen there or not. */
  async gather(layer: number, { ownSlots, workspaceSlots, slotPlans }: PlannedChunk): Promise<void> {
    const { backend, groups, exchange } = this.#options;
    const { deadlineMs } = exchange;
    const own: Tensor[] = [];
    for (const part of this.#parts) {
      const stored = part.stored(layer);
      for (const side of ["key", "value"] as const) {
        const [cache, rows] = [stored[side], part.own[side]?.slice(0, 0, ownSlots.length)];
        if (cache === undefined || rows === undefined) continue;
        await backend.gatherKvCache({ cache, slots: ownSlots, rows });
        own.push(rows);
      }
    }
    const rowBytes = own.reduce((sum, rows) => sum + rows.byteLength, 0) / Math.max(1, ownSlots.length);
    const foreign = workspaceSlots.reduce((sum, { length }, rank) => sum + (rank === groups.dcp.rank ? 0 : length), 0);
    const writes = groups.dcp.readPeers(
      own,
      (peers) => peers.flatMap((rows, rank) => this.#place(rows, slotPlans[rank])),
      { deadlineMs, bytesRead: Math.round(foreign * rowBytes) },
    );
    await Promise.all(writes);
  }

  /** The gathered chunk of a layer, as `partialAttention` takes it. */
  operands(layer: number): Pick<AttentionOperands, "keyCache" | "valueCache"> {
    const { valueDim } = this.#options.model;
    const [elements, scales] = this.#parts.map(({ chunk }) => chunk);
    if (elements === undefined) throw new RangeError("the workspace is closed");
    const cachesOfChunk = { keyCache: elements.key, valueCache: elements.value ?? elements.key.slice(3, 0, valueDim) };
    if (scales === undefined) return { ...cachesOfChunk, ...this.#caches.scales(layer) };
    const rowScales = { keyScaleCache: scales.key, valueScaleCache: scales.value ?? scales.key };
    return { ...cachesOfChunk, ...rowScales };
  }

  /** Frees the blocks. Idempotent. */
  close(): void {
    for (const { chunk } of this.#parts) {
      chunk.key.free();
      chunk.value?.free();
    }
    this.#parts.length = 0;
  }

  /** Puts one rank's rows in their places, keys and values of a part in one op. */
  #place(rows: readonly Tensor[], slotMapping: SlotPlan | undefined) {
    let at = 0;
    if (slotMapping === undefined) return [];
    return this.#parts.map(({ own, chunk }) => {
      const key = rows[at++] ?? own.key;
      if (chunk.value === undefined) {
        return this.#options.backend.writeKvCache({ key, slotMapping, keyCache: chunk.key });
      }
      const values = { value: rows[at++] ?? own.key, valueCache: chunk.value };
      return this.#options.backend.writeKvCache({ key, slotMapping, keyCache: chunk.key, ...values });
    });
  }

  #add(
    stored: Part["stored"],
    blocks: number,
    scratch: Allocator,
    dtype: DType,
    keyDim: number,
    valueDim: number,
  ): void {
    const { backend, model, cache } = this.#options;
    const { kvHeads, mla } = model;
    const rows = rowsOfShard(this.#options, blocks);
    const own = (dim: number): Tensor => Tensor.empty(scratch, dtype, [rows, kvHeads, dim]);
    const ownPair = { key: own(keyDim), value: mla ? undefined : own(valueDim) };
    const key = backend.empty(dtype, [blocks, cache.blockSize, kvHeads, keyDim]);
    try {
      const value = mla ? undefined : backend.empty(dtype, [blocks, cache.blockSize, kvHeads, valueDim]);
      this.#parts.push({ stored, own: ownPair, chunk: { key, value } });
    } catch (error) {
      key.free();
      throw error;
    }
  }
}

/**
 * Most rows of a chunk that one shard holds: its even share, and at most an interleave more for each segment. There are
 * at most as many segments as blocks.
 */
function rowsOfShard({ cache, groups }: ResolvedOptions, blocks: number): number {
  const { shard } = groups;
  const tokens = blocks * cache.blockSize;
  return Math.min(tokens, Math.ceil(tokens / shard.count) + blocks * shard.interleave);
}

function scalesOf(caches: KvCaches, layer: number): Pair<Operand> {
  const { keyScaleCache, valueScaleCache } = caches.rowScales(layer);
  if (keyScaleCache === undefined) throw new RangeError("these caches have no scales of rows");
  return { key: keyScaleCache, value: valueScaleCache };
}
