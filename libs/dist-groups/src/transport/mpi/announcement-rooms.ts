// The rooms that the transport over MPI lays in a rank's own part of the memory, for one group: an operand table, a
// flight ring, and for every rank of another process two places for announcements, which alternate with the
// collectives. A place is what travels: a line with the header, and the staging area behind it. Announcements of ranks
// of the same process lie in the group's block: process-block.ts.

import { FLIGHT_RING_WORDS } from "../../flight-record/flight-ring.ts";
import { operandTableWords } from "../../reduction/operand-table.ts";
import { HEADER_WORDS } from "../../wire/collective-header.ts";

/** 128 bytes. */
export const LINE_WORDS = 32;
/** Bytes of the header's line. */
export const HEAD_BYTES = LINE_WORDS * 4;
/** Word of the header's line that says how many rounds the sender has published. */
export const ROUND_WORD = LINE_WORDS - 1;
if (HEADER_WORDS > ROUND_WORD) throw new Error("a header does not fit its line");

const wholeLines = (words: number): number => Math.ceil(words / LINE_WORDS) * LINE_WORDS;

/** Words of a place. The staging area starts a line after the header. */
export function placeWords(stagingBytes: number): number {
  return LINE_WORDS + wholeLines(stagingBytes / 4);
}

/** Word offsets of the rooms, relative to their start. */
export interface AnnouncementRooms {
  readonly operandTable: number;
  readonly flightRing: number;
  /** First word of a place of the rank with this index among those of other processes: its header. */
  place(index: number, parity: 0 | 1): number;
  readonly totalWords: number;
}

/** The rooms of a rank of a group of `size` ranks, of which `remotes` live in other processes. */
export function announcementRooms(size: number, remotes: number, stagingBytes: number): AnnouncementRooms {
  const flightRing = wholeLines(operandTableWords(size));
  const places = flightRing + wholeLines(FLIGHT_RING_WORDS);
  const words = placeWords(stagingBytes);
  return {
    operandTable: 0,
    flightRing,
    place: (index, parity) => places + (2 * index + parity) * words,
    totalWords: places + 2 * remotes * words,
  };
}
