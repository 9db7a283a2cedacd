import { type Completion, type DeviceSharing, GpuTensor, type KernelBackend, type Operand } from "@lockstep/kernels";
import { combinesOnDevice } from "./a2a-on-device.ts";
import type { CombineSetup } from "./combine-way.ts";
import type { SharedPartialMemory } from "./shared-partials.ts";

/** What the ranks of a group share their device through, where they attend and combine on one; else undefined. */
export function sharedDeviceOf(attends: KernelBackend, setup: CombineSetup): DeviceSharing | undefined {
  const { sharing } = attends;
  const isShared = setup.dcpGroup.ranks.every((rank) => sharing?.ranks.includes(rank));
  return isShared && combinesOnDevice(attends, setup) ? sharing : undefined;
}

/** How queries come to the device. */
export interface SharedQuery {
  /** A rank brings the queries of all heads, in the dtype in which it attends: nothing is gathered. */
  readonly isWhole: boolean;
  /** What queries are divided by before they are rounded to 8 bits; undefined where they are not. */
  readonly scale: number | undefined;
}

/** Views of the memory of steps of one size. */
interface Views {
  /** Queries of all heads [B, H, Dk]. */
  readonly query: GpuTensor;
  /** Where this rank's queries go, as a KV cache of blocks of one token [B, 1, h, Dk]. */
  readonly ownQuery: GpuTensor;
  /** The same for the queries of all heads [B, 1, H, Dk]. */
  readonly allQueries: GpuTensor;
  /** Where this rank's attention goes [B, H, D] and [B, H]. */
  readonly out: GpuTensor;
  readonly lse: GpuTensor;
  /** This rank's heads of every rank's attention [B, h, D] and [B, h]. */
  readonly outs: readonly GpuTensor[];
  readonly lses: readonly GpuTensor[];
}

/**
 * The combine `a2a`, with what comes before it, of ranks that share a device: each rank stores its queries with the
 * others' there, attends for all heads, and merges its own heads of all partial results where they lie, in rank order.
 * Nothing crosses the host but operands that lie there, and nobody waits for another rank: the device runs what all
 * ranks called, parted by fences, when results are wanted in the heap, or when there is much to run.
 */
export class AllToAllOnSharedDevice {
  readonly name = "a2a";
  readonly place = "shared device";
  readonly #batch: number;
  readonly #memory: SharedPartialMemory;
  readonly #query: SharedQuery;
  readonly #setup: CombineSetup;
  readonly #sharing: DeviceSharing;
  /** A slot for each query token. */
  readonly #slots: Int32Array;
  #views: Views | undefined;

  constructor(
    batch: number,
    memory: SharedPartialMemory,
    query: SharedQuery,
    setup: CombineSetup,
    sharing: DeviceSharing,
  ) {
    this.#batch = batch;
    this.#memory = memory;
    this.#query = query;
    this.#setup = setup;
    this.#sharing = sharing;
    this.#slots = Int32Array.from({ length: batch }, (_, token) => token);
  }

  /**
   * Called by every rank.
   * @param query of this rank's heads [B, h, Dk], or of all heads where they are not gathered; anywhere
   * @param attend attends for all heads: from queries [B, H, Dk] to outputs [B, H, D] and LSEs [B, H], on the device
   * @param out where this rank's heads go [B, h, D], f32, f16 or bf16; anywhere
   * @param lse where their LSE goes [B, h], f32; left out: nowhere
   * @throws FenceFailed when another rank's part failed; what else its own ops throw
   */
  async run(
    query: Operand,
    attend: (query: Operand, out: GpuTensor, lse: GpuTensor) => Completion,
    out: Operand,
    lse: Operand | undefined,
  ): Promise<void> {
    const { backend, base, nonFinite } = this.#setup;
    this.#views ??= await this.#placed();
    const views = this.#views;
    const { isWhole, scale } = this.#query;
    const isReady = isWhole && (query.place === "heap" || query.isContiguous);
    const target = isWhole ? views.allQueries : views.ownQuery;
    if (!isWhole) storeRows(backend, query, target, this.#slots, scale === undefined ? {} : { keyScale: [scale] });
    // Behind it nobody reads what the attention before left, and every rank's queries are there.
    await this.#sharing.fence();
    // A rank's own version of all queries, where only it reads before the next rank stores its own.
    if (isWhole && !isReady) storeRows(backend, query, target, this.#slots, {});
    void attend(isReady ? query : views.query, views.out, views.lse);
    await this.#sharing.fence();
    const { outs, lses } = views;
    await backend.mergeAttnStates({ outs, lses, base, nonFinite, out, ...(lse === undefined ? {} : { lse }) });
  }

  async #placed(): Promise<Views> {
    const { dcpGroup, own } = this.#setup;
    const partials = await this.#memory.of(this.#batch);
    const query = partials.query.slice(0, 0, this.#batch);
    const ofRank = (all: GpuTensor, rank: number): GpuTensor => withoutFirst(all.slice(0, rank, rank + 1));
    const [outs, lses] = [partials.outs, partials.lses].map((all) => {
      return dcpGroup.ranks.map((_, rank) => ofRank(all, rank).slice(0, 0, this.#batch));
    });
    const [out, lse] = [outs?.[dcpGroup.rank], lses?.[dcpGroup.rank]];
    if (outs === undefined || lses === undefined || out === undefined || lse === undefined) {
      throw new RangeError(`the group has no rank ${dcpGroup.rank}`);
    }
    return {
      query,
      ownQuery: asBlocks(query.slice(1, own.start, own.end)),
      allQueries: asBlocks(query),
      out,
      lse,
      outs: outs.map((of) => of.slice(1, own.start, own.end)),
      lses: lses.map((of) => of.slice(1, own.start, own.end)),
    };
  }
}

/** A tensor [1, ...] without its first dimension. */
function withoutFirst({ memory, dtype, shape, strides, elementOffset }: GpuTensor): GpuTensor {
  return new GpuTensor(memory, dtype, shape.slice(1), strides.slice(1), elementOffset, () => undefined);
}

/** Rows [B, h, D] as a KV cache of blocks of one token [B, 1, h, D]. */
function asBlocks({ memory, dtype, shape, strides, elementOffset }: GpuTensor): GpuTensor {
  const [tokens = 0, heads = 0, dim = 0] = shape;
  const [tokenStride = 0, headStride = 0] = strides;
  const blockStrides = [tokenStride, tokenStride, headStride, 1];
  return new GpuTensor(memory, dtype, [tokens, 1, heads, dim], blockStrides, elementOffset, () => undefined);
}

/** Copies rows [B, h, D] of any strides to a cache of blocks of one token. Kernels take rows without gaps: parts. */
function storeRows(
  backend: KernelBackend,
  rows: Operand,
  blocks: GpuTensor,
  slots: Int32Array,
  scaled: { readonly keyScale?: readonly number[] },
): void {
  if (rows.size === 0) return;
  if (rows.place === "heap" || rows.isContiguous) {
    const tokens = rows.shape[0] ?? 0;
    const slotMapping = tokens === slots.length ? slots : slots.subarray(0, tokens);
    void backend.writeKvCache({ key: rows, keyCache: blocks, slotMapping, ...scaled });
    return;
  }
  const dim = rows.shape.findIndex((size) => size > 1);
  const blockDim = dim === 0 ? 0 : dim + 1;
  for (let at = 0; at < (rows.shape[dim] ?? 0); at++) {
    storeRows(backend, rows.slice(dim, at, at + 1), blocks.slice(blockDim, at, at + 1), slots, scaled);
  }
}
