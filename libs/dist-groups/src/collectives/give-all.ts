import { type SliceExchange, WHOLE } from "../transport/transport.ts";
import { recordWord } from "../wire/tensor-record.ts";
import type { GroupMember } from "./rounds.ts";

/** Every rank gives every peer all of the tensor of its record `index`, and takes all of theirs. */
export function giveAll({ run, transport }: GroupMember, slices: SliceExchange, index: number): void {
  const own = recordWord(transport.staging(run.rank), index);
  slices.share(own, WHOLE, 0, 0);
  for (let peer = 0; peer < run.size; peer++) {
    if (peer === run.rank) continue;
    slices.takeShared(peer, recordWord(transport.staging(peer), index), WHOLE, 0, 0);
  }
}
