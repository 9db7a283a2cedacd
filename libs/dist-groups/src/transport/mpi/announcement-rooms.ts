// The rooms that the transport over MPI lays in a rank's memory, for one group: an operand table, a flight ring, and
// for every rank, this one included, two places for announcements, which alternate with the collectives. A place is
// what travels: a line with the header, and the staging area behind it.

import { FLIGHT_RING_WORDS } from "../../flight-record/flight-ring.ts";
import { operandTableWords } from "../../reduction/operand-table.ts";
import { HEADER_WORDS } from "../../wire/collective-header.ts";

/** 128 bytes. */
const LINE_WORDS = 32;
/** Bytes of the header's line. */
export const HEAD_BYTES = LINE_WORDS * 4;
/** Word of the header's line that says how many rounds the sender has published. */
export const ROUND_WORD = LINE_WORDS - 1;
if (HEADER_WORDS > ROUND_WORD) throw new Error("a header does not fit its line");

const wholeLines = (words: number): number => Math.ceil(words / LINE_WORDS) * LINE_WORDS;

/** Word offsets of the rooms, relative to their start. */
export interface AnnouncementRooms {
  readonly operandTable: number;
  readonly flightRing: number;
  /** First word of a rank's place: its header. The staging area follows a line later. */
  place(rank: number, parity: 0 | 1): number;
  staging(rank: number, parity: 0 | 1): number;
  readonly totalWords: number;
}

/** The rooms of a rank of a group of `size` ranks, with staging areas of `stagingBytes`. */
export function announcementRooms(size: number, stagingBytes: number): AnnouncementRooms {
  const flightRing = wholeLines(operandTableWords(size));
  const places = flightRing + wholeLines(FLIGHT_RING_WORDS);
  const placeWords = LINE_WORDS + wholeLines(stagingBytes / 4);
  const place = (rank: number, parity: 0 | 1): number => places + (2 * rank + parity) * placeWords;
  return {
    operandTable: 0,
    flightRing,
    place,
    staging: (rank, parity) => place(rank, parity) + LINE_WORDS,
    totalWords: places + 2 * size * placeWords,
  };
}
