// What ranks tell each other before a context moves: where each stands in both layouts, and what they must share.
import type { CacheLayout } from "../options/cache-layout.ts";
import { cacheLayout } from "../options/cache-layout.ts";
import type { ResolvedOptions } from "../options/resolved-options.ts";
import type { KvLayout } from "./kv-layout.ts";
import { RedistributeFailed } from "./redistribute-failed.ts";

/** A rank's place in a layout. */
interface LayoutPlace {
  readonly shard: number;
  readonly layout: KvLayout;
  readonly numBlocks: number;
  readonly hasPrefixes: boolean;
  /** What a row is: the same in both layouts. */
  readonly row: CacheLayout;
}

/** What a rank brings. */
export interface RankIntent {
  readonly failure?: string;
  readonly workspaceBytes: number;
  readonly from?: LayoutPlace;
  readonly to?: LayoutPlace;
}

/** What all ranks have agreed on. */
export interface AgreedMove {
  readonly from: KvLayout;
  readonly to: KvLayout;
  /** Blocks of the new layout. */
  readonly numBlocks: number;
  /** Whether the new one knows prefixes. */
  readonly hasPrefixes: boolean;
  /** Ranks of the group by their shards. */
  readonly ranks: { readonly from: readonly number[]; readonly to: readonly number[] };
}

/** Where options put a rank. */
export function placeIn(options: ResolvedOptions): LayoutPlace {
  const { groups, cache } = options;
  const { index, count, interleave, weights } = groups.shard;
  const { blockSize: _b, interleave: _i, weights: _w, dcp: _d, dcpRank: _r, ...row } = cacheLayout(options);
  return {
    shard: index,
    layout: { count, interleave, blockSize: cache.blockSize, ...(weights === undefined ? {} : { weights }) },
    numBlocks: cache.numBlocks,
    hasPrefixes: cache.hasPrefixes,
    row,
  };
}

/**
 * What the intents of all ranks come to. Every rank finds the same.
 * @throws RedistributeFailed when a rank has failed, or when they do not go together
 */
export function agreedMove(intents: readonly RankIntent[]): AgreedMove {
  const failed = intents.flatMap(({ failure }, rank) => (failure === undefined ? [] : [rank]));
  if (failed.length > 0) throw new RedistributeFailed(failed, intents[failed[0] ?? 0]?.failure ?? "");
  expectSame(
    "workspaceBytes",
    intents.map(({ workspaceBytes }) => workspaceBytes),
  );
  const idle = intents.flatMap(({ from, to }, rank) => (from === undefined && to === undefined ? [rank] : []));
  if (idle.length > 0)
    throw new RedistributeFailed(idle, "it brings neither an old attention nor options of a new one");
  const from = side(
    "old",
    intents.map((intent) => intent.from),
  );
  const to = side(
    "new",
    intents.map((intent) => intent.to),
  );
  const places = intents.flatMap((intent) => [intent.from, intent.to]).filter((place) => place !== undefined);
  const rows = places.map(({ row }) => row);
  expectSame("rows of the KV cache (layers, heads, dims, dtype and scales)", rows);
  const { layout, numBlocks, hasPrefixes } = to.place;
  return { from: from.place.layout, to: layout, numBlocks, hasPrefixes, ranks: { from: from.ranks, to: to.ranks } };
}

/** One layout's places, by shards. */
function side(
  name: string,
  places: readonly (LayoutPlace | undefined)[],
): { readonly place: LayoutPlace; readonly ranks: readonly number[] } {
  const given = places.filter((place) => place !== undefined);
  expectSame(
    `${name} layout`,
    given.map(({ layout, numBlocks, hasPrefixes }) => ({ ...layout, numBlocks, hasPrefixes })),
  );
  const [place] = given;
  if (place === undefined) throw new RedistributeFailed([], `no rank of the group has a part of the ${name} layout`);
  const ranks = Array.from({ length: place.layout.count }, (_, shard) => {
    const having = places.flatMap((other, rank) => (other?.shard === shard ? [rank] : []));
    const [rank] = having;
    if (rank !== undefined && having.length === 1) return rank;
    const who = having.length === 0 ? "no rank" : `ranks ${having.join(" and ")}`;
    throw new RedistributeFailed([], `${who} of the group have shard ${shard} of the ${name} layout, instead of one`);
  });
  return { place, ranks };
}

function expectSame(what: string, given: readonly unknown[]): void {
  const [first = "none", ...others] = given.map((value) => JSON.stringify(value));
  const other = others.find((text) => text !== first);
  if (other === undefined) return;
  throw new RedistributeFailed([], `all must have the same ${what}, but one has ${first} and another has ${other}`);
}
