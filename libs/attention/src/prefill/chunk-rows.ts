import { kvWeight, kvWeightSum, type Operand } from "@lockstep/kernels";
import { type Allocator, type DType, Tensor } from "@lockstep/tensor";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import type { PlannedChunk } from "./planned-chunks.ts";
import { useOfPeers } from "./use-of-peers.ts";

/** Something of keys, and of values unless these are columns of the keys (MLA). */
export interface Pair<T> {
  readonly key: T;
  readonly value: T | undefined;
}

/** Elements, or scales of rows: both travel alike. */
interface Part {
  /** Where a layer keeps them. */
  readonly stored: (layer: number) => Pair<Operand>;
  /** What this rank adds to a chunk. */
  readonly own: Pair<Tensor>;
}

/** What one rank adds to a chunk: its elements and, if they have some, the scales of its rows. */
export interface RankRows {
  readonly elements: Pair<Tensor>;
  readonly scales: Pair<Tensor> | undefined;
}

/**
 * Shows every rank of the DCP group each rank's rows of a chunk of a prefill's contexts: keys, values and, if they have
 * some, the scales of their rows, in the order of their local indexes.
 */
export class ChunkRows {
  readonly #options: ResolvedOptions;
  readonly #parts: readonly Part[];

  /** Allocates this rank's rows of a chunk of `blocks` blocks from `scratch`, which the caller closes. */
  constructor(options: ResolvedOptions, caches: KvCaches, blocks: number, scratch: Allocator) {
    const { model, cache } = options;
    const { headDim, valueDim, kvHeads, mla } = model;
    this.#options = options;
    const rows = rowsOfShard(options, blocks);
    const part = (stored: Part["stored"], dtype: DType, keyDim: number, width: number): Part => {
      const own = (dim: number): Tensor => Tensor.empty(scratch, dtype, [rows, kvHeads, dim]);
      return { stored, own: { key: own(keyDim), value: mla ? undefined : own(width) } };
    };
    const stored = (layer: number): Pair<Operand> => ({ key: caches.key(layer), value: caches.value(layer) });
    const elements = part(stored, cache.dtype, headDim, valueDim);
    this.#parts = cache.hasRowScales ? [elements, part((layer) => scalesOf(caches, layer), "f32", 1, 1)] : [elements];
  }

  /** Bytes of `scratch` that it takes. */
  static bytes(options: ResolvedOptions, blocks: number): number {
    const { kvHeads, headDim, valueDim, mla } = options.model;
    const columns = headDim + (mla ? 0 : valueDim) + (options.cache.hasRowScales ? 2 : 0);
    return rowsOfShard(options, blocks) * kvHeads * columns * 4 + 1024;
  }

  /** Rows that hold anything, for what reads none of them. */
  get spare(): RankRows {
    return this.#assemble(this.#parts.flatMap(({ own }) => (own.value ? [own.key, own.value] : [own.key])));
  }

  /**
   * Runs `use` over every rank's rows of a chunk, while the ranks keep them. Every rank of the DCP group calls it for
   * every chunk, seen there or not.
   * @param use not asynchronous; what it returns is awaited when the peers may change their rows again
   */
  async read(
    layer: number,
    { ownSlots, shardRows }: PlannedChunk,
    use: (ranks: readonly RankRows[]) => readonly (Promise<void> | undefined)[],
  ): Promise<void> {
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
    const foreign = shardRows.reduce((sum, count, rank) => sum + (rank === groups.dcp.rank ? 0 : count), 0);
    await useOfPeers(groups.dcp, own, (peers) => use(peers.map((tensors) => this.#assemble(tensors))), {
      deadlineMs,
      bytesRead: Math.round(foreign * rowBytes),
    });
  }

  /** One rank's tensors in the order in which they travel. */
  #assemble(tensors: readonly Tensor[]): RankRows {
    let at = 0;
    const [elements, scales] = this.#parts.map(({ own }): Pair<Tensor> => {
      const key = tensors[at++] ?? own.key;
      return { key, value: own.value === undefined ? undefined : (tensors[at++] ?? own.value) };
    });
    if (elements === undefined) throw new RangeError("a chunk has elements");
    return { elements, scales };
  }
}

/**
 * Most rows of a chunk that this rank's shard holds: its share by weight, and at most a turn more for each segment.
 * There are at most as many segments as blocks. At least one, for what reads none.
 */
function rowsOfShard({ cache, groups }: ResolvedOptions, blocks: number): number {
  const { shard } = groups;
  const tokens = blocks * cache.blockSize;
  const weight = kvWeight(shard);
  const share = Math.ceil((tokens * weight) / kvWeightSum(shard)) + blocks * weight * shard.interleave;
  return Math.max(1, Math.min(tokens, share));
}

function scalesOf(caches: KvCaches, layer: number): Pair<Operand> {
  const { keyScaleCache, valueScaleCache } = caches.rowScales(layer);
  if (keyScaleCache === undefined) throw new RangeError("these caches have no scales of rows");
  return { key: keyScaleCache, value: valueScaleCache };
}
