// What the ranks of a DcpAttention must have in common.
import type { ProcessGroup } from "@lockstep/dist-groups";
import { ArgumentError } from "@lockstep/tensor";
import { sameRanks } from "../combine/combine.ts";
import type { DcpAttentionOptions } from "./dcp-attention-options.ts";
import { expectGroup, expectRecord } from "../arguments/expect-argument.ts";
import { layerScales, scalesPerToken } from "../kv/kv-scales.ts";

/** Lists of more numbers than this are agreed on by a digest. */
const LONGEST_LIST = 32;

/**
 * Returns when every rank of the DCP, query and PCP groups has opened a DcpAttention with options of the same meaning. What
 * concerns a rank alone may differ: its backends, its heap, deadlines, the base of the LSE that it is returned.
 *
 * @throws OptionsDisagree on every rank, with both sides; the groups' errors when ranks do not come
 */
export function agreeOnOptions(options: DcpAttentionOptions): void {
  const { dcpGroup, queryGroup = dcpGroup, pcpGroup, headDim, valueDim = headDim, layers, deadlineMs } = options;
  const { queryDtype = "f32", gatherDtype = queryDtype, mla = false, window, sinks, headGroup } = options;
  const scales = layerScales(options.kvScales, layers, mla);
  const fields = {
    layers,
    queryHeads: options.queryHeads,
    kvHeads: options.kvHeads,
    headDim,
    valueDim,
    mla,
    headGroup: headGroup === undefined ? undefined : [headGroup.size, headGroup.offset],
    kvDtype: options.kvDtype,
    kvScales: scalesPerToken(options)
      ? "per-token"
      : brief(
          scales.flatMap(({ keyScale = [], valueScale = [] }) => [...Array.from(keyScale), ...Array.from(valueScale)]),
        ),
    queryDtype,
    gatherDtype,
    queryScale: options.queryScale ?? 1,
    partialDtype: options.partialDtype ?? "f32",
    queryReplicated: options.queryReplicated === true,
    blockSize: options.blockSize,
    interleave: options.interleave ?? 1,
    numBlocks: options.numBlocks,
    combine: options.combine ?? "auto",
    scale: options.scale,
    softcap: options.softcap,
    window: typeof window === "object" ? window.map((size) => size ?? 0) : window,
    sinks: sinks === undefined ? undefined : brief(Array.from(sinks.toNumbers())),
    maxStepQueries: options.maxStepQueries ?? 256,
    prefillChunk: options.prefillChunk,
    ranksThatGatherQueries: sameRanks(queryGroup, dcpGroup) ? "those of the DCP group" : queryGroup.size,
    ranksThatSplitAPrefill: pcpGroup?.size,
  };
  for (const group of groupsOf(dcpGroup, queryGroup, pcpGroup))
    group.agree("DcpAttention.open", fields, { deadlineMs });
}

/** Options with other groups of the same ranks. @throws ArgumentError unless they are */
export function withGroups(
  options: DcpAttentionOptions,
  groups: Partial<Pick<DcpAttentionOptions, "dcpGroup" | "queryGroup" | "pcpGroup">>,
): DcpAttentionOptions {
  // A query group that was left out is the DCP group.
  expectRecord("DcpAttention.useGroups", "groups", groups);
  const { dcpGroup, pcpGroup } = options;
  const before = { dcpGroup, queryGroup: options.queryGroup, pcpGroup };
  for (const name of ["dcpGroup", "queryGroup", "pcpGroup"] as const) {
    const [old, next] = [before[name], groups[name]];
    if (next === undefined) continue;
    expectGroup("DcpAttention.useGroups", name, next);
    if (old !== undefined && sameRanks(old, next) && old.rank === next.rank) continue;
    const expected = old === undefined ? "left out, as it was at open" : `a group of the ranks [${old.ranks}]`;
    throw new ArgumentError("DcpAttention.useGroups", name, expected, `one of [${next.ranks}]`);
  }
  const given = Object.entries(groups).filter(([name, group]) => Object.hasOwn(before, name) && group !== undefined);
  return { ...options, ...Object.fromEntries(given) };
}

/** The groups of a DcpAttention, each once. */
export function groupsOf(
  dcpGroup: ProcessGroup,
  queryGroup: ProcessGroup = dcpGroup,
  pcpGroup: ProcessGroup | undefined = undefined,
): ReadonlySet<ProcessGroup> {
  return new Set([dcpGroup, queryGroup, ...(pcpGroup === undefined ? [] : [pcpGroup])]);
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
