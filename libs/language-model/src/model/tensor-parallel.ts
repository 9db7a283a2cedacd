import type { Determinism } from "@lockstep/dist-groups";
import { UnfitOptions } from "../errors.ts";
import { WEIGHT_GROUP } from "../layers/weight.ts";

/** Columns of the MLP that stay together. */
const COLUMN_UNIT = WEIGHT_GROUP;

/** Indexes [start, end). */
export interface Range {
  /** The first. */
  readonly start: number;
  /** One past the last. */
  readonly end: number;
}

/**
 * Where KV heads live. A world has world / dcp groups of `dcp` ranks, which split the tokens of the KV heads that their
 * group stores. `replicated`: that is every KV head, in every group. `sharded`: KV heads are split over the groups:
 * each has as many whole ones as the others, or, of more groups than KV heads, as many groups store each of them.
 */
export type KvHeadLayout = "replicated" | "sharded";

/** The sizes that decide who owns what. */
export interface ParallelSizes {
  /** Ranks of the world, all of them tensor-parallel. */
  readonly world: number;
  /** Ranks that share the tokens of a KV cache; divides `world`. */
  readonly dcp: number;
  /** Where KV heads live. */
  readonly kvLayout: KvHeadLayout;
  /**
   * What the bits of logits may depend on besides a text. `rank-order`, or left out: on these sizes; partial outputs of
   * layers are summed in the order of ranks. `world-invariant`: on nothing; the output projections of attention and MLP
   * are split by rows and get whole inputs, so that no sum crosses ranks.
   */
  readonly deterministic?: Determinism;
}

/** The part of a model's dimensions one rank owns. */
export interface RankShare {
  /** Query heads this rank projects, and whose attention output it gets. */
  readonly queryHeads: Range;
  /** Query heads of this rank's DCP group. */
  readonly groupQueryHeads: Range;
  /** KV heads this rank stores. */
  readonly kvHeads: Range;
  /**
   * Columns of the MLP's hidden layer. Cut in units of 32, so that groups of int8 weights stay whole, where its output
   * projection is cut with them.
   */
  readonly intermediate: Range;
  /** Rows of the embedding table and of the output projection. */
  readonly vocabulary: Range;
  /** What this rank computes of the output projections of a layer's attention and MLP. */
  readonly outputs: OutputShare;
}

/**
 * A part of the outputs over all inputs, or a partial sum of all outputs over the inputs that this rank has: see
 * `deterministic` of {@link ParallelSizes}.
 */
export interface OutputShare {
  /** Outputs, of the hidden size. */
  readonly hidden: Range;
  /** Query heads whose attention comes in. */
  readonly queryHeads: Range;
  /** Columns of the MLP's hidden layer that come in. */
  readonly intermediate: Range;
  /** What comes in is gathered from the other ranks, and what comes out as well. */
  readonly isGathered: boolean;
  /** Whether each rank's query heads are the chunk that an all-gather takes of it. */
  readonly headsAreChunks: boolean;
}

export function lengthOf(range: Range): number {
  return range.end - range.start;
}

/** Part `index` of `range` cut into `parts`: the chunk rule, so that sizes need not be divisible. */
export function chunk(range: Range, index: number, parts: number): Range {
  const length = lengthOf(range);
  return {
    start: range.start + Math.floor((length * index) / parts),
    end: range.start + Math.floor((length * (index + 1)) / parts),
  };
}

/** `auto` takes the head-sharded layout wherever it is legal, else keeps all KV heads in every group. */
export function chooseKvLayout(world: number, dcp: number, kvHeads: number): KvHeadLayout {
  return dcp < world && shardingProblem(world, dcp, kvHeads) === undefined ? "sharded" : "replicated";
}

/**
 * The fewest ranks that split the tokens of a KV cache such that no KV head is stored twice: with KV heads that may be
 * split over groups, as many groups as divide both the world and the KV heads; else one, of the whole world. Every such
 * choice takes the same memory of a rank, but what heads alone split need not be gathered and combined.
 */
export function leastDcp(world: number, kvHeads: number, wanted: KvHeadLayout | "auto"): number {
  return wanted === "replicated" ? world : world / commonDivisor(world, kvHeads);
}

/** Throws {@link UnfitOptions} when these sizes cannot run a model with that many heads. */
export function checkParallelSizes(sizes: ParallelSizes, queryHeads: number, kvHeads: number): void {
  const { world, dcp, kvLayout } = sizes;
  if (world > queryHeads) {
    throw new UnfitOptions(`\`world\` must be at most the model's ${queryHeads} query heads, but is ${world}.`);
  }
  if (world % dcp !== 0) throw new UnfitOptions(`\`dcp\` must divide \`world\` ${world}, but is ${dcp}.`);
  const problem = kvLayout === "sharded" ? shardingProblem(world, dcp, kvHeads) : undefined;
  if (problem !== undefined) throw new UnfitOptions(`\`kvHeads\` sharded is impossible: ${problem}. Use replicated.`);
}

function shardingProblem(world: number, dcp: number, kvHeads: number): string | undefined {
  const groups = world / dcp;
  if (groups === 1 && world > 1 && kvHeads > 1) {
    return `\`dcp\` ${dcp} makes one group of all ranks, which stores all ${kvHeads} KV heads`;
  }
  if (kvHeads % groups === 0 || groups % kvHeads === 0) return undefined;
  return `\`world\` ${world} with \`dcp\` ${dcp} makes ${groups} groups, which ${kvHeads} KV heads cannot be split over`;
}

/** The greatest common divisor. */
function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}

/**
 * What `rank` owns. DCP groups are contiguous slices of the world; each has a chunk of the query heads, each rank a
 * chunk of that.
 */
export function rankShare(
  sizes: ParallelSizes,
  rank: number,
  model: {
    readonly queryHeads: number;
    readonly kvHeads: number;
    readonly hiddenSize: number;
    readonly intermediateSize: number;
    readonly vocabularySize: number;
  },
): RankShare {
  const { world, dcp, kvLayout, deterministic } = sizes;
  const group = Math.floor(rank / dcp);
  const groups = world / dcp;
  const groupQueryHeads = groupHeads(sizes, group, model.queryHeads);
  const queryHeads = chunk(groupQueryHeads, rank % dcp, dcp);
  const all = (length: number): Range => ({ start: 0, end: length });
  const isInvariant = deterministic === "world-invariant";
  const intermediate = isInvariant
    ? chunk(all(model.intermediateSize), rank, world)
    : columnShare(model.intermediateSize, rank, world);
  const kvHeads =
    kvLayout === "replicated" ? { start: 0, end: model.kvHeads } : kvHeadsOf(group, groups, model.kvHeads);
  return {
    groupQueryHeads,
    queryHeads,
    kvHeads,
    intermediate,
    vocabulary: chunk(all(model.vocabularySize), rank, world),
    outputs: isInvariant
      ? {
          hidden: chunk(all(model.hiddenSize), rank, world),
          queryHeads: all(model.queryHeads),
          intermediate: all(model.intermediateSize),
          isGathered: world > 1,
          headsAreChunks: headsAreChunks(sizes, model.queryHeads),
        }
      : { hidden: all(model.hiddenSize), queryHeads, intermediate, isGathered: false, headsAreChunks: false },
  };
}

/** The query heads of a DCP group. */
function groupHeads({ world, dcp }: ParallelSizes, group: number, queryHeads: number): Range {
  return chunk({ start: 0, end: queryHeads }, group, world / dcp);
}

/** Whether chunks of the groups' chunks are chunks of all heads: of heads that groups share unevenly they may not be. */
function headsAreChunks(sizes: ParallelSizes, queryHeads: number): boolean {
  const { world, dcp } = sizes;
  for (let rank = 0; rank < world; rank++) {
    const own = chunk(groupHeads(sizes, Math.floor(rank / dcp), queryHeads), rank % dcp, dcp);
    if (own.start !== chunk({ start: 0, end: queryHeads }, rank, world).start) return false;
  }
  return true;
}

/** The KV heads that a group stores when they are split over groups, one or other of which divides the other. */
function kvHeadsOf(group: number, groups: number, kvHeads: number): Range {
  return { start: Math.floor((group * kvHeads) / groups), end: Math.ceil(((group + 1) * kvHeads) / groups) };
}

/** A rank's part of columns: whole units of 32, the last of them shorter, where there are enough for every rank. */
function columnShare(columns: number, rank: number, world: number): Range {
  if (columns < COLUMN_UNIT * world) return chunk({ start: 0, end: columns }, rank, world);
  const { start, end } = chunk({ start: 0, end: Math.ceil(columns / COLUMN_UNIT) }, rank, world);
  return { start: start * COLUMN_UNIT, end: Math.min(columns, end * COLUMN_UNIT) };
}
