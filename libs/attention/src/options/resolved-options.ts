// What a DcpAttention is made for, decided once: all that is below it reads this and applies no default.
import { type HeadRange, headRange, type ProcessGroup } from "@lockstep/dist-groups";
import { type KernelBackend, type KvShard, kvBlockSize, type LseBase, type PagedCacheSize } from "@lockstep/kernels";
import { ArgumentError, type DType, type SharedHeap, type Tensor } from "@lockstep/tensor";
import { expectGroup, expectRecord } from "../arguments/expect-argument.ts";
import { type Combine, sameRanks } from "../combine/combine.ts";
import { type LayerScales, layerScales, scalesPerToken } from "../kv/kv-scales.ts";
import { type AttentionVariant, attentionVariants } from "./attention-variant.ts";
import { checkKinds, checkOptions } from "./check-options.ts";
import type { DcpAttentionOptions } from "./dcp-attention-options.ts";
import { withDefaults } from "./option-defaults.ts";

/** Options of a DcpAttention, sound and complete. */
export interface ResolvedOptions {
  /** Attends, and stores the KV cache. */
  readonly backend: KernelBackend;
  /** Combines partial outputs in the heap. */
  readonly mergeBackend: KernelBackend;
  readonly heap: SharedHeap;
  readonly model: ModelShape;
  readonly cache: CacheShape;
  readonly groups: AttentionGroups;
  readonly exchange: ExchangeSettings;
  readonly steps: StepLimits;
}

/** The attention of a model, as this rank's query group computes it. */
export interface ModelShape {
  readonly layers: number;
  /** Of the whole query group. */
  readonly queryHeads: number;
  /** Stored on this rank. */
  readonly kvHeads: number;
  readonly headDim: number;
  readonly valueDim: number;
  readonly mla: boolean;
  /** Which query heads share a KV head. */
  readonly headGroup: { readonly size: number; readonly offset: number };
  /** Of each layer. */
  readonly variants: readonly AttentionVariant[];
  /** Of all layers [layers, queryHeads], f32. */
  readonly sinks: Tensor | undefined;
}

/** The paged KV cache of one layer. */
export interface CacheShape {
  readonly dtype: DType;
  /** Tokens of a block on a rank of weight 1. */
  readonly blockSize: number;
  readonly numBlocks: number;
  /** Blocks that this rank stores, and tokens in each; no blocks with a weight of 0. */
  readonly own: PagedCacheSize;
  /** Full blocks are shared by content. */
  readonly hasPrefixes: boolean;
  /** Every token and KV head has scales of its own, kept beside the cache. */
  readonly hasRowScales: boolean;
  /** Scales that were given, of each layer; empty ones when none were. */
  readonly scales: readonly LayerScales[];
}

/** Who shares what with this rank. */
export interface AttentionGroups {
  /** Ranks over which tokens are sharded. */
  readonly dcp: ProcessGroup;
  /** Ranks whose query heads are gathered. */
  readonly query: ProcessGroup;
  /** Ranks that split the new tokens of a prefill step; undefined when every rank brings all of them. */
  readonly pcp: ProcessGroup | undefined;
  /** Each of them once. */
  readonly all: ReadonlySet<ProcessGroup>;
  /** This rank's part of the context. */
  readonly shard: KvShard;
  /** This rank's heads among the query group's. */
  readonly ownHeads: HeadRange;
  /** Nothing is gathered and nothing combined. */
  readonly isAlone: boolean;
}

/** What ranks tell each other in a step, and how. */
export interface ExchangeSettings {
  readonly queryDtype: DType;
  readonly gatherDtype: DType;
  readonly queryScale: number;
  readonly queryReplicated: boolean;
  readonly partialDtype: DType;
  readonly combine: Combine | "auto";
  /** Results have the same bits for any number of ranks, layout, chunk and combine. */
  readonly isWorldInvariant: boolean;
  readonly overlap: "auto" | "on" | "off";
  readonly lseBase: LseBase;
  readonly onPartialLse: ((layer: number, partialLse: Tensor) => void) | undefined;
  /** undefined: the group's. */
  readonly deadlineMs: number | undefined;
}

/** How large steps may be. */
export interface StepLimits {
  /** Query tokens of one step on this rank. */
  readonly maxQueries: number;
  /** Tokens of a context that a prefill gathers at a time; undefined: no prefill. */
  readonly prefillChunk: number | undefined;
}

/** The options of `DcpAttention.open`, resolved. @throws ArgumentError unless they go together */
export function resolveOptions(given: DcpAttentionOptions): ResolvedOptions {
  checkKinds(given);
  const options = withDefaults(given);
  checkOptions(given, options);
  const { backend, mergeBackend, heap, layers, queryHeads, kvHeads, headDim, valueDim, mla, headGroup } = options;
  const { kvDtype: dtype, kvScales, blockSize, numBlocks, prefixCache: hasPrefixes, sinks } = options;
  const isWorldInvariant = options.deterministic === "world-invariant";
  const { queryDtype, gatherDtype, queryScale, queryReplicated, partialDtype, combine, overlap, lseBase } = options;
  const { dcpGroup, queryGroup, pcpGroup, onPartialLse, deadlineMs, maxStepQueries, prefillChunk } = options;
  const variants = attentionVariants(options);
  const hasRowScales = scalesPerToken(dtype, kvScales);
  const scales = layerScales(kvScales, layers, mla);
  const groups = attentionGroups(dcpGroup, queryGroup, pcpGroup, options, queryHeads);
  const own = ownBlocks(groups.shard, { numBlocks, blockSize });
  return {
    backend,
    mergeBackend,
    heap,
    model: { layers, queryHeads, kvHeads, headDim, valueDim, mla, headGroup, variants, sinks },
    cache: { dtype, blockSize, numBlocks, own, hasPrefixes, hasRowScales, scales },
    groups,
    exchange: {
      queryDtype,
      gatherDtype,
      queryScale,
      queryReplicated,
      partialDtype,
      combine,
      isWorldInvariant,
      overlap,
      lseBase,
      onPartialLse,
      deadlineMs,
    },
    steps: { maxQueries: maxStepQueries, prefillChunk },
  };
}

/**
 * The same with other groups of the same ranks. A query group that is the DCP group stays so.
 * @throws ArgumentError unless each group has the ranks of the one that it replaces, in the same order
 */
export function withGroups(
  options: ResolvedOptions,
  given: Partial<Pick<DcpAttentionOptions, "dcpGroup" | "queryGroup" | "pcpGroup">>,
): ResolvedOptions {
  const name = "DcpAttention.useGroups";
  expectRecord(name, "groups", given);
  const { dcp, query, pcp, shard } = options.groups;
  const before = { dcpGroup: dcp, queryGroup: query, pcpGroup: pcp };
  for (const argument of ["dcpGroup", "queryGroup", "pcpGroup"] as const) {
    const [old, next] = [before[argument], given[argument]];
    if (next === undefined) continue;
    expectGroup(name, argument, next);
    if (old !== undefined && sameRanks(old, next) && old.rank === next.rank) continue;
    const expected = old === undefined ? "left out, as it was at open" : `a group of the ranks [${old.ranks}]`;
    throw new ArgumentError(name, argument, expected, `one of [${next.ranks}]`);
  }
  const { dcpGroup = dcp, pcpGroup = pcp } = given;
  const { queryGroup = query === dcp ? dcpGroup : query } = given;
  const groups = attentionGroups(dcpGroup, queryGroup, pcpGroup, shard, options.model.queryHeads);
  return { ...options, groups };
}

function attentionGroups(
  dcp: ProcessGroup,
  query: ProcessGroup,
  pcp: ProcessGroup | undefined,
  deal: Pick<KvShard, "interleave" | "weights">,
  queryHeads: number,
): AttentionGroups {
  return {
    dcp,
    query,
    pcp,
    all: new Set(pcp === undefined ? [dcp, query] : [dcp, query, pcp]),
    shard: shardOf(dcp, deal),
    ownHeads: headRange(queryHeads, query.rank, query.size),
    isAlone: dcp.size === 1 && query.size === 1,
  };
}

/** A rank's shard. Weights of 1 each are left out: they are none. */
function shardOf(
  { rank, size }: ProcessGroup,
  { interleave, weights }: Pick<KvShard, "interleave" | "weights">,
): KvShard {
  const shard = { index: rank, count: size, interleave };
  return weights?.some((weight) => weight !== 1) ? { ...shard, weights: [...weights] } : shard;
}

/** What of caches of a size a shard stores. */
function ownBlocks(shard: KvShard, { numBlocks, blockSize }: PagedCacheSize): PagedCacheSize {
  const own = kvBlockSize(shard, blockSize);
  return own === 0 ? { numBlocks: 0, blockSize } : { numBlocks, blockSize: own };
}
