// Who holds what: groups of ranks, shares of a length, cache slots. Written from the definitions, not from the library.
import { type Float64Op, input, type OpParameters } from "./corpus-values.ts";

/** How positions are dealt. */
export interface Dealing {
  readonly world: number;
  readonly interleave: number;
  /** Turns of each rank in a round. */
  readonly weights: readonly number[];
}

/** How the parameters of an op deal positions, or how a mistake does. */
export function dealingOf({ world = 1, interleave = 1, weights }: OpParameters, mistake?: string): Dealing {
  const even = new Array<number>(world).fill(1);
  const dealt = weights === undefined || mistake === "weights-ignored" ? even : weights;
  return { world, interleave: mistake === "interleave-one" ? 1 : interleave, weights: dealt };
}

/** The rank that stores a position, and its local index there: counted one position after another in its round. */
export function placeOf({ interleave, weights }: Dealing, position: number): { rank: number; local: number } {
  const round = interleave * weights.reduce((sum, weight) => sum + weight, 0);
  const rounds = Math.floor(position / round);
  let within = position % round;
  for (const [rank, weight] of weights.entries()) {
    const turn = weight * interleave;
    if (within < turn) return { rank, local: rounds * turn + within };
    within -= turn;
  }
  throw new Error("a position belongs to some rank");
}

/** How many of the first `length` positions a rank stores: counted. */
export function lengthOn(dealing: Dealing, rank: number, length: number): number {
  let count = 0;
  for (let position = 0; position < length; position++) if (placeOf(dealing, position).rank === rank) count += 1;
  return count;
}

/** The share of a length that a rank is given, or that a mistake gives it. */
export function shareOf(parameters: OpParameters, rank: number, length: number, mistake?: string): number {
  const { world = 1 } = parameters;
  if (mistake === "even-split") return Math.ceil(length / world);
  if (mistake === "floor-split") return Math.floor(length / world);
  const seen = mistake === "newest-token-missing" ? Math.max(0, length - 1) : length;
  return lengthOn(dealingOf(parameters, mistake), rank, seen);
}

/** Shares of lengths. */
export const localLengths: Float64Op = (parameters, inputs, mistake) => {
  const lengths = Array.from(input(inputs, "lengths").numbers);
  const { world = 1 } = parameters;
  const numbers = Array.from({ length: world }, (_, rank) =>
    lengths.map((length) => shareOf(parameters, rank, length, mistake)),
  ).flat();
  return { local: { dtype: "i32", shape: [world, lengths.length], numbers, tolerance: "exact" } };
};

/** Of ranges of positions: each rank's first local index and how many it stores. */
export const localRanges: Float64Op = (parameters, inputs, mistake) => {
  const [starts, ends] = [input(inputs, "starts").numbers, input(inputs, "ends").numbers];
  const { world = 1 } = parameters;
  const first: number[] = [];
  const count: number[] = [];
  for (let rank = 0; rank < world; rank++) {
    for (const [at, start] of Array.from(starts).entries()) {
      const end = ends[at] ?? start;
      const before = shareOf(parameters, rank, start, mistake);
      const isByLength = mistake === "border-from-length";
      first.push(before);
      count.push(shareOf(parameters, rank, isByLength ? end - start : end, mistake) - (isByLength ? 0 : before));
    }
  }
  const shape = [world, starts.length];
  return {
    first: { dtype: "i32", shape, numbers: first, tolerance: "exact" },
    count: { dtype: "i32", shape, numbers: count, tolerance: "exact" },
  };
};

/** The slot of a position on the rank that stores it, and that rank. */
export function slotOf(
  parameters: OpParameters,
  position: number,
  table: ArrayLike<number>,
  mistake?: string,
): { rank: number; slot: number } {
  const { block_size: size = 1 } = parameters;
  const dealing = dealingOf(parameters, mistake);
  const { rank, local } = placeOf(dealing, position);
  const own = size * (dealing.weights[rank] ?? 0);
  const sum = dealing.weights.reduce((total, weight) => total + weight, 0);
  const column = mistake === "contiguous-split" ? Math.floor(position / own) : Math.floor(position / (size * sum));
  const offset = mistake === "offset-not-compacted" ? position % own : local % own;
  const holder = mistake === "swapped-ranks" ? (rank + 1) % dealing.world : rank;
  const block = table[column];
  return { rank: holder, slot: block === undefined ? -1 : block * own + offset };
}

/** Slots of positions on every rank. */
export const slotMapping: Float64Op = (parameters, inputs, mistake) => {
  const positions = Array.from(input(inputs, "positions").numbers);
  const table = input(inputs, "block_table").numbers;
  const { world = 1 } = parameters;
  const places = positions.map((position) => slotOf(parameters, position, table, mistake));
  const numbers = Array.from({ length: world }, (_, rank) =>
    places.map((place) => (place.rank === rank ? place.slot : -1)),
  ).flat();
  return { slots: { dtype: "i32", shape: [world, positions.length], numbers, tolerance: "exact" } };
};

/** Groups of ranks that hold one sequence's KV between them. */
export const kvGroups: Float64Op = ({ layout, dp = 1, pcp = 1, tp = 1, dcp = 1 }, _, mistake) => {
  const groups: number[][] = [];
  const count = (length: number): number[] => Array.from({ length }, (_, index) => index);
  for (const replica of count(dp)) {
    const rank = (p: number, t: number): number => (replica * pcp + p) * tp + t;
    if (layout === "classic") {
      const slices = tp / dcp;
      for (const slice of count(slices)) {
        const member = (i: number): number => (mistake === "strided-groups" ? i * slices + slice : slice * dcp + i);
        groups.push(count(pcp).flatMap((p) => count(dcp).map((i) => rank(p, member(i)))));
      }
    } else if (dcp === 1) {
      for (const p of count(pcp)) for (const t of count(tp)) groups.push([rank(p, t)]);
    } else if (dcp === pcp) {
      for (const t of count(tp)) {
        // As neighbours, where they are TP ranks apart.
        const member = (p: number): number => replica * pcp * tp + t * pcp + p;
        groups.push(count(pcp).map((p) => (mistake === "neighbour-groups" ? member(p) : rank(p, t))));
      }
    } else {
      groups.push(count(tp).flatMap((t) => count(pcp).map((p) => rank(p, t))));
    }
  }
  const ordered = mistake === "tp-ordered-group" ? groups.map((group) => group.toSorted((a, b) => a - b)) : groups;
  const shape = [ordered.length, ordered[0]?.length ?? 0];
  return { groups: { dtype: "i32", shape, numbers: ordered.flat(), tolerance: "exact" } };
};
