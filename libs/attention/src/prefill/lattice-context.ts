import type { AttentionPlan, Operand } from "@lockstep/kernels";
import { type Allocator, Tensor } from "@lockstep/tensor";
import { BOUNDS_OF_A_ROW } from "../combine/lattice-combine.ts";
import type { KvCaches } from "../kv/kv-caches.ts";
import type { AttentionVariant } from "../options/attention-variant.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import { ChunkRows, type RankRows } from "./chunk-rows.ts";
import { type ContextAttention, scoreArgs, sinkArgs, variantOf } from "./context-attention.ts";
import { type ChunkLimits, type PlannedChunk, type PlannedSegment, plannedChunks } from "./planned-chunks.ts";
import type { PrefillPlan } from "./prefill-plan.ts";
import { rowsAsCache } from "./rows-as-cache.ts";

/** The two walks over a context: the largest scores of every row, then the sums relative to these. */
const PASSES = ["bounds", "sums"] as const;
type Pass = (typeof PASSES)[number];

/** Where the walks leave what they find: the bounds [3, rows, ownHeads] and the sums [rows, ownHeads, Dv + 1, 2]. */
interface Found {
  readonly bounds: Operand;
  readonly sums: Operand;
}

/**
 * Attention of a prefill whose bits depend on no rank. Each rank walks over the whole context twice, for its own heads:
 * first for the largest score of every row, which has no order, then for sums of integers relative to it, which are
 * exact in any order. So they are those of decoding, whatever the ranks, the chunks, and who holds what.
 *
 * What other ranks hold comes chunk by chunk, once for each walk; where a context is one chunk, once for both.
 */
export class LatticeContext implements ContextAttention {
  readonly #options: ResolvedOptions;
  readonly #caches: KvCaches;
  readonly #chunk: ChunkLimits;
  /** undefined where this rank holds all of every context. */
  readonly #rows: ChunkRows | undefined;
  /** A table of one block, the first. */
  readonly #firstBlock: Tensor;
  readonly #bounds: Tensor;
  readonly #sums: Tensor;
  readonly #lse: Tensor;
  /** Bounds and sums of all rows on the device of a backend that has one, from where they come back once. */
  readonly #device: Found | undefined;
  /** Chunks of the step under way, by the window they were cut for. */
  readonly #chunks = new Map<number | undefined, readonly PlannedChunk[]>();
  /** What the step's tokens see of this rank's own cache, by the layers' windows. */
  readonly #plans = new Map<number | undefined, AttentionPlan>();

  /**
   * Allocates from `scratch`, which the caller closes, and on the backend's device.
   * @throws HeapExhausted, DeviceError: nothing stays allocated on the backend then
   */
  constructor(options: ResolvedOptions, caches: KvCaches, chunk: ChunkLimits, scratch: Allocator) {
    const { backend, model, groups, steps } = options;
    const { bounds, sums, lse } = elementsOf(options);
    this.#options = options;
    this.#caches = caches;
    this.#chunk = chunk;
    this.#rows = groups.dcp.size === 1 ? undefined : new ChunkRows(options, caches, chunk.blocks, scratch);
    this.#firstBlock = Tensor.zeros(scratch, "i32", [1, 1]);
    this.#bounds = Tensor.empty(scratch, "f32", [bounds]);
    this.#sums = Tensor.empty(scratch, "i32", [sums]);
    this.#lse = Tensor.empty(scratch, "f32", [lse]);
    if (backend.memory === "heap") return;
    const rows = [steps.maxQueries, groups.ownHeads.count];
    const onDevice = backend.empty("f32", [BOUNDS_OF_A_ROW, ...rows]);
    try {
      this.#device = { bounds: onDevice, sums: backend.empty("i32", [...rows, model.valueDim + 1, 2]) };
    } catch (error) {
      onDevice.free();
      throw error;
    }
  }

  /** Bytes of `scratch` that it takes. */
  static bytes(options: ResolvedOptions, blocks: number): number {
    const { bounds, sums, lse } = elementsOf(options);
    const rows = options.groups.dcp.size === 1 ? 0 : ChunkRows.bytes(options, blocks);
    return rows + (bounds + sums + lse) * 4 + 1024;
  }

  async attend(layer: number, plan: PrefillPlan, query: Tensor, out: Tensor, lse: Tensor | undefined): Promise<void> {
    const { backend, mergeBackend, model, groups } = this.#options;
    const rows = plan.rows.length;
    const heads = groups.ownHeads.count;
    const width = model.valueDim + 1;
    const results = {
      bounds: this.#bounds.slice(0, 0, BOUNDS_OF_A_ROW * rows * heads).reshape([BOUNDS_OF_A_ROW, rows, heads]),
      sums: this.#sums.slice(0, 0, rows * heads * width * 2).reshape([rows, heads, width, 2]),
    };
    const device = this.#device;
    const found: Found =
      device === undefined ? results : { bounds: device.bounds.slice(1, 0, rows), sums: device.sums.slice(0, 0, rows) };
    if (this.#rows === undefined) await this.#walkOwn(layer, plan, query, found);
    else await this.#walkChunks(layer, plan, query, found, this.#rows);
    if (rows === 0) return;
    if (device !== undefined) {
      await backend.download(found.bounds, results.bounds);
      await backend.download(found.sums, results.sums);
    }
    const spare = this.#lse.slice(0, 0, rows * heads).reshape([rows, heads]);
    await mergeBackend.finishLattice({ ...results, out, lse: lse ?? spare });
  }

  end(): void {
    this.#chunks.clear();
    for (const plan of this.#plans.values()) plan.free();
    this.#plans.clear();
  }

  close(): void {
    this.end();
    this.#device?.bounds.free();
    this.#device?.sums.free();
  }

  async #walkOwn(layer: number, plan: PrefillPlan, query: Tensor, found: Found): Promise<void> {
    if (plan.rows.length === 0) return;
    const variant = variantOf(this.#options, layer);
    const operands = {
      query,
      keyCache: this.#caches.key(layer),
      valueCache: this.#caches.value(layer),
      ...this.#caches.scales(layer),
      ...this.#caches.rowScales(layer),
      plan: this.#planFor(plan, variant.window),
      ...scoreArgs(this.#options, variant),
      ...sinkArgs(this.#options, variant),
    };
    await this.#options.backend.attentionBounds({ ...operands, bounds: found.bounds });
    await this.#options.backend.latticeSums({ ...operands, bounds: found.bounds, sums: found.sums });
  }

  async #walkChunks(
    layer: number,
    plan: PrefillPlan,
    query: Tensor,
    found: Found,
    rowsOfRanks: ChunkRows,
  ): Promise<void> {
    const { backend } = this.#options;
    const variant = variantOf(this.#options, layer);
    const chunks = this.#chunksFor(plan, variant.window);
    const walks: readonly (readonly Pass[])[] = chunks.length === 1 ? [PASSES] : PASSES.map((pass) => [pass]);
    for (const passes of walks) {
      for (const chunk of chunks) {
        await rowsOfRanks.read(layer, chunk, (ranks) => {
          // One submission for each pass: a GPU has its copies of the rows when `batch` returns.
          return passes.map((pass) =>
            backend.batch(() => {
              for (const segment of chunk.segments) {
                this.#walk(pass, layer, variant, plan, segment, query, ranks, found, rowsOfRanks);
              }
            }),
          );
        });
      }
    }
  }

  /** One pass over what every rank holds of a segment. */
  #walk(
    pass: Pass,
    layer: number,
    variant: AttentionVariant,
    plan: PrefillPlan,
    segment: PlannedSegment,
    query: Tensor,
    ranks: readonly RankRows[],
    found: Found,
    rowsOfRanks: ChunkRows,
  ): void {
    const { from, to, isFirst } = segment;
    if (from === to) return;
    const { backend, groups } = this.#options;
    const tokens = {
      query: query.slice(0, from, to),
      sequences: new Int32Array(to - from),
      positions: plan.positions.subarray(from, to),
      blockTable: this.#firstBlock,
      ...(variant.window === undefined ? {} : { window: variant.window }),
      ...scoreArgs(this.#options, variant),
    };
    const bounds = found.bounds.slice(1, from, to);
    for (const [index, { first, count, at }] of segment.shards.entries()) {
      const rows = ranks[index];
      if (rows === undefined) continue;
      // The first call of a row begins, whether or not there is a key, and brings the sinks: these join once.
      const begins = isFirst && index === 0;
      if (count === 0 && !begins) continue;
      const [held, start, end] = count === 0 ? [rowsOfRanks.spare, 0, 1] : [rows, at, at + count];
      const args = {
        ...tokens,
        ...rowsAsCache(this.#options.model, this.#caches, layer, held, start, end),
        shard: { ...groups.shard, index },
        segments: [{ first, count }],
        ...(begins ? sinkArgs(this.#options, variant) : {}),
        bounds,
        continues: !begins,
      };
      if (pass === "bounds") void backend.attentionBounds(args);
      else void backend.latticeSums({ ...args, sums: found.sums.slice(0, from, to) });
    }
  }

  #chunksFor(plan: PrefillPlan, window: number | undefined): readonly PlannedChunk[] {
    const known = this.#chunks.get(window);
    if (known !== undefined) return known;
    const chunks = plannedChunks(plan, this.#options, this.#chunk, window);
    this.#chunks.set(window, chunks);
    return chunks;
  }

  /** @throws HeapExhausted */
  #planFor({ step, sequences, positions }: PrefillPlan, window: number | undefined): AttentionPlan {
    const known = this.#plans.get(window);
    if (known !== undefined) return known;
    const { backend, cache, groups } = this.#options;
    const seen = { blockTable: step.blockTable, sequences, positions, shard: groups.shard };
    const plan = backend.planAttention(window === undefined ? seen : { ...seen, window }, cache.own);
    this.#plans.set(window, plan);
    return plan;
  }
}

function elementsOf({ model, groups, steps }: ResolvedOptions) {
  const rows = steps.maxQueries * groups.ownHeads.count;
  return { bounds: BOUNDS_OF_A_ROW * rows, sums: rows * (model.valueDim + 1) * 2, lse: rows };
}
