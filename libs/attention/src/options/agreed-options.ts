// What the ranks of a DcpAttention must have in common.
import { sameRanks } from "../combine/combine.ts";
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
  const { queryDtype, gatherDtype, queryScale, partialDtype, queryReplicated, combine, deadlineMs } = exchange;
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
    numBlocks: cache.numBlocks,
    combine,
    scale: variants[0]?.scale,
    softcap: variants[0]?.softcap,
    window: new Set(windows).size === 1 ? windows[0] : windows.map((size) => size ?? 0),
    sinks: sinks === undefined ? undefined : brief(Array.from(sinks.toNumbers())),
    maxStepQueries: steps.maxQueries,
    prefillChunk: steps.prefillChunk,
    ranksThatGatherQueries: sameRanks(groups.query, groups.dcp) ? "those of the DCP group" : groups.query.size,
    ranksThatSplitAPrefill: groups.pcp?.size,
  };
  for (const group of groups.all) group.agree("DcpAttention.open", fields, { deadlineMs });
}

/** The numbers themselves, or how many there are and a digest of their bits (FNV-1a). */
function brief(numbers: readonly number[]): readonly number[] | string {
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
