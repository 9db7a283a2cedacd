// The memory a process group coordinates through, one block per group:
//
//   header line      the abort word: 0, or 1 + index of the writer whose abort record says why
//   rank lines       one 128-byte line per rank with its progress word; written by that rank only
//   sleeper lines    one line per rank: how many peers are parked on its progress word
//   operand tables   one per rank: private scratch of the copy and fold kernels
//   abort records    one per rank and one for the host: JSON, written once by its owner before it sets the abort word
//   headers          two per rank (collectives alternate), a line each: what the rank is about to do. Apart from the
//                    progress word, so that a header that stays as it is stays in the peers' caches
//   staging areas    two per rank, likewise: small messages, and records of the tensors of large ones
//   flight rings     one per rank: what it has done of late; written by that rank only, read by anyone
//
// Every word has one writer, except the abort word (one compare-and-swap, never a loop) and the sleeper counts (add,
// sub).

import { ERROR_RECORD_WORDS } from "../../errors/error-record.ts";
import { FLIGHT_RING_WORDS } from "../../flight-record/flight-ring.ts";
import { operandTableWords } from "../../reduction/operand-table.ts";

/** Words (4 bytes) of a line. Two owners never share a line: adjacent-line prefetch makes 128 bytes the unit. */
export const LINE_WORDS = 32;

/** Word offsets of a group's control block, relative to its start. The same on every rank. */
export interface ControlBlockLayout {
  readonly size: number;
  /** Bytes of a staging area. */
  readonly stagingBytes: number;
  readonly abortWord: number;
  readonly progressWord: (rank: number) => number;
  readonly sleeperWord: (rank: number) => number;
  readonly operandTable: (rank: number) => number;
  /** Record of writer `writer`: a rank, or `size` for the host. */
  readonly abortRecord: (writer: number) => number;
  /** First word of a rank's header for collectives with sequence numbers of a parity (0 even, 1 odd). */
  readonly header: (rank: number, parity: number) => number;
  readonly staging: (rank: number, parity: number) => number;
  readonly flightRing: (rank: number) => number;
  readonly totalWords: number;
}

function wholeLines(words: number): number {
  return Math.ceil(words / LINE_WORDS) * LINE_WORDS;
}

/** Layout of the control block of a group of `size` ranks. `stagingBytes` is a multiple of 128. */
export function controlBlockLayout(size: number, stagingBytes: number): ControlBlockLayout {
  const progress = LINE_WORDS;
  const sleepers = progress + size * LINE_WORDS;
  const tables = sleepers + size * LINE_WORDS;
  const tableWords = wholeLines(operandTableWords(size));
  const records = tables + size * tableWords;
  const headers = records + (size + 1) * ERROR_RECORD_WORDS;
  const staging = headers + 2 * size * LINE_WORDS;
  const stagingWords = wholeLines(stagingBytes / 4);
  const rings = staging + 2 * size * stagingWords;
  return {
    size,
    stagingBytes,
    abortWord: 0,
    progressWord: (rank) => progress + rank * LINE_WORDS,
    sleeperWord: (rank) => sleepers + rank * LINE_WORDS,
    operandTable: (rank) => tables + rank * tableWords,
    abortRecord: (writer) => records + writer * ERROR_RECORD_WORDS,
    header: (rank, parity) => headers + (2 * rank + parity) * LINE_WORDS,
    staging: (rank, parity) => staging + (2 * rank + parity) * stagingWords,
    flightRing: (rank) => rings + rank * FLIGHT_RING_WORDS,
    totalWords: rings + size * FLIGHT_RING_WORDS,
  };
}

/** Where the control block of a group is. Plain data, the same on every rank. */
export interface ControlBlockPlace {
  /** Byte offset in the world's memory. */
  readonly byteOffset: number;
  readonly stagingBytes: number;
  /** Value of every progress word before the first collective. */
  readonly initialProgress: number;
}
