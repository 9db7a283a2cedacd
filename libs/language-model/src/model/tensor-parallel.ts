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
 * Where KV heads live. `replicated`: every rank stores its tokens for all KV heads. `sharded`: KV heads are split over
 * the ranks first; the ranks that share a KV head split its tokens.
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
}

/** The part of a model's dimensions one rank owns. */
export interface RankShare {
  /** Query heads this rank projects, and whose attention output it gets. */
  readonly queryHeads: Range;
  /** Query heads of this rank's DCP group. */
  readonly groupQueryHeads: Range;
  /** KV heads this rank stores. */
  readonly kvHeads: Range;
  /** Columns of the MLP's hidden layer: cut in units of 32, so that groups of int8 weights stay whole. */
  readonly intermediate: Range;
  /** Rows of the embedding table and of the output projection. */
  readonly vocabulary: Range;
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

/** `auto` takes the head-sharded layout wherever it is legal, else keeps all KV heads on every rank. */
export function chooseKvLayout(world: number, dcp: number, kvHeads: number): KvHeadLayout {
  return shardingProblem(world, dcp, kvHeads) === undefined ? "sharded" : "replicated";
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
  if (world % kvHeads !== 0) return `the model's ${kvHeads} KV heads do not divide \`world\` ${world}`;
  const sharers = world / kvHeads;
  if (sharers % dcp !== 0) return `\`dcp\` ${dcp} does not divide the ${sharers} ranks that share a KV head`;
  return undefined;
}

/**
 * What `rank` owns. DCP groups are contiguous slices of the world; each has a chunk of the heads, each rank a chunk of
 * that.
 */
export function rankShare(
  sizes: ParallelSizes,
  rank: number,
  model: {
    readonly queryHeads: number;
    readonly kvHeads: number;
    readonly intermediateSize: number;
    readonly vocabularySize: number;
  },
): RankShare {
  const { world, dcp, kvLayout } = sizes;
  const group = Math.floor(rank / dcp);
  const groups = world / dcp;
  const groupQueryHeads = chunk({ start: 0, end: model.queryHeads }, group, groups);
  const sharers = world / model.kvHeads;
  const kvHead = Math.floor(rank / sharers);
  return {
    groupQueryHeads,
    queryHeads: chunk(groupQueryHeads, rank % dcp, dcp),
    kvHeads: kvLayout === "sharded" ? { start: kvHead, end: kvHead + 1 } : { start: 0, end: model.kvHeads },
    intermediate: columnShare(model.intermediateSize, rank, world),
    vocabulary: chunk({ start: 0, end: model.vocabularySize }, rank, world),
  };
}

/** A rank's part of columns: whole units of 32, the last of them shorter, where there are enough for every rank. */
function columnShare(columns: number, rank: number, world: number): Range {
  if (columns < COLUMN_UNIT * world) return chunk({ start: 0, end: columns }, rank, world);
  const { start, end } = chunk({ start: 0, end: Math.ceil(columns / COLUMN_UNIT) }, rank, world);
  return { start: start * COLUMN_UNIT, end: Math.min(columns, end * COLUMN_UNIT) };
}
