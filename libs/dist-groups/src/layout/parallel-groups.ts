import { ArgumentError, describe } from "@lockstep/tensor";
import { keysSafely } from "../errors/printed-value.ts";

/** Sizes of the parallel dimensions. Sizes left out are 1. */
export interface ParallelSizes {
  /**
   * How DCP relates to the other dimensions; never guessed, because some sizes fit both.
   * - `classic`: DCP groups are contiguous slices of a TP group and use no extra ranks. `dcp` divides `tp`.
   * - `orthogonal`: DCP is 1, PCP, or TP * PCP, with the PCP axis first.
   */
  readonly layout: "classic" | "orthogonal";
  /** Data parallel size: independent replicas. */
  readonly dp?: number;
  /** Pipeline parallel size. */
  readonly pp?: number;
  /** Prefill context parallel size. */
  readonly pcp?: number;
  /** Tensor parallel size. */
  readonly tp: number;
  /** Decode context parallel size. */
  readonly dcp: number;
}

/** Every rank's groups. Each partition holds every rank once; a group lists global ranks in group order. */
export interface ParallelGroups {
  /** Number of ranks. */
  readonly worldSize: number;
  /** Ranks that split the layers' matrices. */
  readonly tp: number[][];
  /** Ranks that split a sequence in prefill. */
  readonly pcp: number[][];
  /** Ranks that hold consecutive layers. */
  readonly pp: number[][];
  /** Replicas. */
  readonly dp: number[][];
  /** Ranks that split the KV cache by token. */
  readonly dcp: number[][];
  /**
   * Ranks that hold a sequence's whole KV cache between them, in the order of the shards: the DCP group, or in the
   * classic layout with PCP > 1 the DCP groups of all PCP ranks, PCP outermost.
   */
  readonly kv: number[][];
  /**
   * Ranks whose query heads are gathered before attention: those among which the heads of a DCP group are split.
   * Classic: the DCP group. Orthogonal with dcp = tp * pcp: the TP group. Orthogonal with dcp = pcp: each rank alone,
   * because its DCP peers hold the same query heads.
   */
  readonly query: number[][];
  /** Number of shards W that a sequence's tokens are spread over: dcp, or pcp * dcp in the classic layout. */
  readonly kvShards: number;
  /** Which of the W shards each rank holds, by global rank. */
  readonly kvShard: number[];
}

const OPERATION = "parallelGroups";
const SIZES = ["layout", "dp", "pp", "pcp", "tp", "dcp"];
/** Of a layout on paper; a world has at most 255. */
const MOST_RANKS = 65_536;

/**
 * Lays ranks out as (DP, PP, PCP, TP) with TP innermost and derives every rank's groups. Known answers:
 * classic TP4 DCP2 has DCP groups [0,1] [2,3]; orthogonal TP2 PCP2 DCP4 has [0,2,1,3].
 */
export function parallelGroups(sizes: ParallelSizes): ParallelGroups {
  const keys = typeof sizes === "object" && sizes !== null ? keysSafely(sizes) : undefined;
  if (keys === undefined) throw new ArgumentError(OPERATION, "sizes", "an object", describe(sizes));
  for (const key of keys) {
    if (!SIZES.includes(key)) throw new ArgumentError(OPERATION, key, `one of ${SIZES.join(", ")}`, "another option");
  }
  const { layout, dp = 1, pp = 1, pcp = 1, tp, dcp } = sizes;
  for (const [name, value] of Object.entries({ dp, pp, pcp, tp, dcp })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new ArgumentError(OPERATION, name, "a positive integer", describe(value));
    }
  }
  const ranks = dp * pp * pcp * tp;
  if (ranks > MOST_RANKS) {
    const came = `${dp} * ${pp} * ${pcp} * ${tp}`;
    throw new ArgumentError(OPERATION, "dp, pp, pcp, tp", `at most ${MOST_RANKS} ranks together`, came);
  }
  checkDcp(layout, pcp, tp, dcp);
  const worldSize = ranks;
  const shape = [dp, pp, pcp, tp];
  const tpGroups = groupsAlong(shape, [3]);
  const dcpGroups =
    layout === "classic"
      ? tpGroups.flatMap((group) => slices(group, dcp))
      : dcp === 1
        ? tpGroups.flatMap((group) => slices(group, 1))
        : groupsAlong(shape, dcp === pcp ? [2] : [3, 2]);
  const alone = tpGroups.flatMap((group) => slices(group, 1));
  const classicShards = pcp * dcp;
  const kvShard = new Array<number>(worldSize).fill(0);
  for (const group of dcpGroups) {
    group.forEach((rank, index) => {
      const pcpRank = Math.floor(rank / tp) % pcp;
      kvShard[rank] = layout === "classic" ? pcpRank * dcp + index : index;
    });
  }
  const pcpSpan = pcp * tp;
  const kv = layout === "classic" ? acrossPcp(dcpGroups, tp, pcpSpan) : dcpGroups;
  return {
    worldSize,
    kv,
    tp: tpGroups,
    pcp: groupsAlong(shape, [2]),
    pp: groupsAlong(shape, [1]),
    dp: groupsAlong(shape, [0]),
    dcp: dcpGroups,
    query: layout === "classic" ? dcpGroups : dcp === tp * pcp && tp > 1 ? tpGroups : alone,
    kvShards: layout === "classic" ? classicShards : dcp,
    kvShard,
  };
}

/** For each DCP group of the first PCP rank: it and its counterparts on the other PCP ranks, one after another. */
function acrossPcp(dcpGroups: readonly number[][], tp: number, pcpSpan: number): number[][] {
  const isFirst = ([rank = 0]: readonly number[]): boolean => rank % pcpSpan < tp;
  const steps = Array.from({ length: pcpSpan / tp }, (_, pcpRank) => pcpRank * tp);
  return dcpGroups.filter(isFirst).map((group) => steps.flatMap((step) => group.map((rank) => rank + step)));
}

function checkDcp(layout: ParallelSizes["layout"], pcp: number, tp: number, dcp: number): void {
  if (layout === "classic") {
    if (tp % dcp === 0) return;
    throw new ArgumentError(OPERATION, "dcp", `a divisor of tp (${tp}) in the classic layout`, String(dcp));
  }
  if (layout !== "orthogonal") {
    throw new ArgumentError(OPERATION, "layout", '"classic" or "orthogonal"', describe(layout));
  }
  if (dcp === 1 || dcp === pcp || dcp === tp * pcp) return;
  throw new ArgumentError(
    OPERATION,
    "dcp",
    `1, pcp (${pcp}) or tp * pcp (${tp * pcp}) in the orthogonal layout`,
    describe(dcp),
  );
}

/**
 * Groups of the ranks of a row-major grid that differ only in the given axes. Within a group the first axis listed
 * varies slowest. Groups are ordered by their first rank.
 */
function groupsAlong(shape: readonly number[], axes: readonly number[]): number[][] {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
  const spread = (from: readonly number[], over: readonly number[]): number[] =>
    over.reduce<number[]>(
      (ranks, axis) =>
        ranks.flatMap((rank) => Array.from({ length: shape[axis] ?? 1 }, (_, i) => rank + i * (strides[axis] ?? 0))),
      [...from],
    );
  const others = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  return spread([0], others).map((first) => spread([first], axes));
}

function slices(ranks: readonly number[], length: number): number[][] {
  return Array.from({ length: ranks.length / length }, (_, part) => ranks.slice(part * length, (part + 1) * length));
}
