import type { SliceExchange } from "../transport/transport.ts";
import { recordWord } from "../wire/tensor-record.ts";
import { chunkOf } from "./record-chunk.ts";
import type { GroupMember } from "./rounds.ts";

/**
 * Every rank gives every peer the peer's chunk, along a dimension, of the tensor of its record `index`, and takes its
 * own chunk of theirs. Negative dimensions count from the end of each tensor's.
 */
export function giveChunks({ run, transport }: GroupMember, slices: SliceExchange, index: number, dim: number): void {
  const { rank, size } = run;
  const { words } = transport;
  const own = recordWord(transport.staging(rank), index);
  for (let peer = 0; peer < size; peer++) {
    if (peer === rank) continue;
    const theirs = recordWord(transport.staging(peer), index);
    const given = chunkOf(words, own, dim, peer, size);
    slices.give(peer, own, given.axis, given.start, given.count);
    const taken = chunkOf(words, theirs, dim, rank, size);
    slices.take(peer, theirs, taken.axis, taken.start, taken.count);
  }
}
