import type { Tensor } from "@lockstep/tensor";
import { type Combine, sameRanks } from "./combine.ts";
import type { CombineSetup } from "./combine-way.ts";

/** One way to add up what the ranks of a DCP group have as integers, which leaves each rank its own heads. */
export interface LatticeCombine {
  readonly name: Combine;
  /**
   * Called by every rank.
   * @param sums of all heads of the query group [T, H, Dv + 1, 2], i32; may be overwritten
   * @param own where the sums of this rank's heads over all ranks go [T, h, Dv + 1, 2], i32, contiguous
   */
  add(sums: Tensor, own: Tensor): void;
}

/** Combines whose sums are exact, whatever the order: all give the same bits. `one-shot` packs floats, so it is none. */
export const LATTICE_COMBINES: readonly Combine[] = ["a2a", "ag-rs"];

/** Numbers that `attentionBounds` finds of a row. */
export const BOUNDS_OF_A_ROW = 3;

/** Ranks whose sums of 26-bit parts i32 can add up. */
export const MOST_LATTICE_RANKS = 32;

/** The combine of a name. @throws RangeError for one that is not among {@link LATTICE_COMBINES} */
export function latticeCombine(name: Combine, setup: CombineSetup): LatticeCombine {
  if (name === "a2a") return { name, add: (sums, own) => addFromPeers(sums, own, setup) };
  if (name === "ag-rs") return { name, add: (sums, own) => reduceScatter(sums, own, setup) };
  throw new RangeError(`${name} adds no integers`);
}

/** Each rank adds up its own heads from where every peer left them. */
function addFromPeers(sums: Tensor, own: Tensor, { dcpGroup, queryGroup, own: heads, deadlineMs }: CombineSetup): void {
  const isChunked = sameRanks(dcpGroup, queryGroup);
  const bytesRead = (dcpGroup.size - 1) * own.byteLength;
  dcpGroup.readPeers(
    [sums],
    (peers) => {
      for (const [rank, [peer = sums]] of peers.entries()) {
        addIntegers(isChunked ? peer : peer.slice(1, heads.start, heads.end), own, rank === 0);
      }
    },
    { deadlineMs, bytesRead, ...(isChunked ? { dim: 1 } : {}) },
  );
}

/** A reduce-scatter along the heads; where the ranks' heads are no chunks of the DCP group's, an all-reduce. */
function reduceScatter(sums: Tensor, own: Tensor, setup: CombineSetup): void {
  const { dcpGroup, queryGroup, own: heads, deadlineMs } = setup;
  if (sameRanks(dcpGroup, queryGroup)) {
    dcpGroup.reduceScatter(sums, own, { dim: 1, deadlineMs });
    return;
  }
  dcpGroup.allReduce(sums, sums, { deadlineMs });
  own.copyFrom(sums.slice(1, heads.start, heads.end));
}

/**
 * Adds integers [T, h, ...] of which each token's lie end to end to as many contiguous ones; the first are written in
 * place of what was there.
 */
function addIntegers(from: Tensor, to: Tensor, isFirst: boolean): void {
  const [tokens = 0] = to.shape;
  const width = tokens === 0 ? 0 : to.size / tokens;
  const [step = 0] = from.strides;
  const source = integersOf(from);
  const target = integersOf(to);
  for (let token = 0; token < tokens; token++) {
    const read = token * step;
    const write = token * width;
    if (isFirst) for (let at = 0; at < width; at++) target[write + at] = source[read + at] ?? 0;
    else
      for (let at = 0; at < width; at++)
        target[write + at] = ((target[write + at] ?? 0) + (source[read + at] ?? 0)) | 0;
  }
}

function integersOf({ elements }: Tensor): Int32Array {
  return new Int32Array(elements.buffer, elements.byteOffset, elements.length);
}
