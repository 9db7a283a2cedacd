// The block that a group has in the memory of each process that has ranks of it: what these ranks tell each other. It
// lies at the same offset of every process's range of blocks; the leader hands offsets out, and takes one back when no
// rank has a part in the group any more.
//
//   rank lines       one 128-byte line per rank of the process: see the words below; written by that rank only
//   landing lines    for each rank of the process, a word per rank of the group: the round of which it has landed what
//                    that rank shares; written by the former only
//   abort records    one per rank: JSON, written once by that rank before it sets its abort word
//   places           two per rank, which alternate with the collectives: a line with the header, and the staging area
//
// Nobody clears a block for the next group, as no thread of a process knows of all groups. So a rank's words say which
// group they are of: until a rank has joined, its line may be that of an earlier group.

import { ERROR_RECORD_WORDS } from "../../errors/error-record.ts";
import { LINE_WORDS, placeWords } from "./announcement-rooms.ts";
import type { RankHome } from "./tags.ts";

/** Words of a rank's line: rounds that it has published; then, each holding the group's mark once it is so: */
export const PROGRESS = 0;
/** it has joined, */
export const JOINED = 1;
/** and it knows that the group is aborted; its abort record says why. */
export const ABORTED = 2;
/** First word of its own rooms (announcement-rooms.ts), once it has joined. */
export const ROOMS = 3;

/** What says that a word is of a group: not 0, which is what no group has written. */
export function groupMark(channel: number): number {
  return (channel + 1) | 0;
}

/** Word offsets of a block, relative to its start. `index` is a rank's among those of its process in the group. */
export interface ProcessBlockLayout {
  line(index: number): number;
  /** The word of what a rank of the group shares. */
  landed(index: number, rank: number): number;
  abortRecord(index: number): number;
  place(index: number, parity: 0 | 1): number;
  readonly totalWords: number;
}

/** The block of a process that has `locals` of the `size` ranks of the group. */
export function processBlockLayout(locals: number, size: number, stagingBytes: number): ProcessBlockLayout {
  const landings = locals * LINE_WORDS;
  const landingWords = Math.ceil(size / LINE_WORDS) * LINE_WORDS;
  const records = landings + locals * landingWords;
  const places = records + locals * ERROR_RECORD_WORDS;
  const words = placeWords(stagingBytes);
  return {
    line: (index) => index * LINE_WORDS,
    landed: (index, rank) => landings + index * landingWords + rank,
    abortRecord: (index) => records + index * ERROR_RECORD_WORDS,
    place: (index, parity) => places + (2 * index + parity) * words,
    totalWords: places + 2 * locals * words,
  };
}

/** Bytes of a group's block in the process that has most of its ranks. */
export function processBlockBytes(homes: readonly RankHome[], stagingBytes: number): number {
  const locals = new Map<number, number>();
  for (const { process } of homes) locals.set(process, (locals.get(process) ?? 0) + 1);
  return processBlockLayout(Math.max(...locals.values()), homes.length, stagingBytes).totalWords * 4;
}
