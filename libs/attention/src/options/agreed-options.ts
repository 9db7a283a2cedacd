// What the ranks of a DcpAttention must have in common.
import type { ProcessGroup } from "@lockstep/dist-groups";
import type { ResolvedOptions } from "./resolved-options.ts";

/** Lists of more numbers than this are agreed on by a digest. */
const LONGEST_LIST = 32;

/**
 * Returns when every rank of the DCP, query and PCP groups has opened a DcpAttention with options of the same meaning.
 * What concerns a rank alone may differ: its backends, its heap, deadlines, the base of the LSE that it is returned.
 *
 * @throws OptionsDisagree on every rank, with both sides; the groups' errors when ranks do not come
 */
export function agreeOnOptions({ model, cache, groups, exchange, steps }: ResolvedOptions): void {
  const { layers, queryHeads, kvHeads, headDim, valueDim, mla, headGroup, variants, sinks } = model;
  const { queryDtype, gatherDtype, queryScale, partialDtype, queryReplicated, combine, overlap, deadlineMs } = exchange;
  const scales = cache.scales.flatMap(({ keyScale = [], valueScale = [] }) => {
    return [...Array.from(keyScale), ...Array.from(valueScale)];
  });
  const windows = variants.map(({ window }) => window);
  const fields = {
    layers,
    queryHeads,
    kvHeads,
    headDim,
    valueDim,
    mla,
    headGroup: [headGroup.size, headGroup.offset],
    kvDtype: cache.dtype,
    kvScales: cache.hasRowScales ? "per-token" : brief(scales),
    queryDtype,
    gatherDtype,
    queryScale,
    partialDtype,
    queryReplicated,
    blockSize: cache.blockSize,
    interleave: groups.shard.interleave,
    weights: groups.shard.weights === undefined ? undefined : brief(groups.shard.weights),
    numBlocks: cache.numBlocks,
    prefixCache: cache.hasPrefixes,
    combine,
    deterministic: exchange.isWorldInvariant ? "world-invariant" : "rank-order",
    overlap,
    scale: variants[0]?.scale,
    softcap: variants[0]?.softcap,
    window: new Set(windows).size === 1 ? windows[0] : windows.map((size) => size ?? 0),
    sinks: sinks === undefined ? undefined : brief(Array.from(sinks.toNumbers())),
    maxStepQueries: steps.maxQueries,
    prefillChunk: steps.prefillChunk,
  };
  // The DCP group comes first: groups that disagree would wait for each other.
  for (const group of groups.all) {
    const described = (other: ProcessGroup): string | number =>
      group === groups.dcp ? namedGroup(other, groups.dcp) : other.size;
    const named = {
      queryGroup: described(groups.query),
      pcpGroup: groups.pcp === undefined ? undefined : described(groups.pcp),
    };
    group.agree("DcpAttention.open", { ...fields, ...named }, { deadlineMs });
  }
}

/**
 * A group in words that are the same on every rank of the DCP group: its name and order where it has the same ranks,
 * its size where it leads out of them, and so may be another one on each.
 */
function namedGroup(group: ProcessGroup, dcpGroup: ProcessGroup): string {
  if (group === dcpGroup) return "the dcpGroup";
  const isOfTheSame = group.size === dcpGroup.size && group.ranks.every((rank) => dcpGroup.ranks.includes(rank));
  return isOfTheSame ? `${group.name} of ranks ${group.ranks.join(", ")}` : `one of ${group.size} ranks`;
}

/** The numbers themselves, or how many there are and a digest of their bits (FNV-1a). */
export function brief(numbers: readonly number[]): readonly number[] | string {
  if (numbers.length <= LONGEST_LIST) return numbers;
  const words = new Uint32Array(Float64Array.from(numbers).buffer);
  let hash = 0x811c9dc5;
  let other = 0x01000193;
  for (const word of words) {
    hash = Math.imul(hash ^ word, 0x01000193) >>> 0;
    other = Math.imul(other ^ (word >>> 16), 0x85ebca6b) >>> 0;
  }
  return `${numbers.length} numbers with digest ${hash.toString(16)}${other.toString(16)}`;
}
