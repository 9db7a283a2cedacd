// A rank's end of a group as far as the ranks of its own process go. They have one memory: announcements and tensors
// are read where they lie, and nothing of it is given to MPI.
//
// Rounds are told as over shared memory: a rank writes its announcement with plain stores, then raises its progress
// word (Atomics.store). Who has seen a peer's word at its own round may read the peer's announcement, and tensors that
// an announcement of this collective leads to, until it raises its own word again.
//
// An aborted rank may write to its tensors while a peer still reads them. So a rank says that it knows of an abort,
// whoever told it, before its collective throws; and its peers look at that word before they report success.

import { readErrorRecord, writeErrorRecord } from "../../errors/error-record.ts";
import { fromPlainError } from "../../errors/plain-error.ts";
import {
  ABORTED,
  groupMark,
  JOINED,
  PROGRESS,
  ROOMS,
  type ProcessBlockLayout,
  processBlockLayout,
} from "./process-block.ts";
import { HEAD_BYTES } from "./announcement-rooms.ts";
import type { RankHome } from "./tags.ts";

/** No rank of this process. */
const ELSEWHERE = -1;

/** Where the block of a group is, and whose. */
export interface BlockPlace {
  /** Of the group. */
  readonly channel: number;
  /** First word of the block in the process's memory. */
  readonly firstWord: number;
  readonly homes: readonly RankHome[];
  readonly stagingBytes: number;
  readonly initialProgress: number;
  /** First word of this rank's own rooms. */
  readonly roomsWord: number;
}

export class LocalPeers {
  readonly #words: Int32Array;
  readonly #mark: number;
  readonly #firstWord: number;
  readonly #layout: ProcessBlockLayout;
  /** By place in the group: the rank's index among those of this process. */
  readonly #indexes: readonly number[];
  /** First words of the ranks' lines, by index, and this rank's index. */
  readonly #lines: readonly number[];
  readonly #own: number;
  /** By index: whether the rank has joined. */
  readonly #hasJoined: boolean[];

  /** Joins. `words` are those of the process's memory, `rank` is this rank's place in the group. */
  constructor(words: Int32Array, block: BlockPlace, rank: number) {
    const { homes, firstWord, channel, stagingBytes, initialProgress, roomsWord } = block;
    const process = homes[rank]?.process;
    let locals = 0;
    this.#indexes = homes.map((home) => (home.process === process ? locals++ : ELSEWHERE));
    const layout = processBlockLayout(locals, homes.length, stagingBytes);
    this.#words = words;
    this.#mark = groupMark(channel);
    this.#firstWord = firstWord;
    this.#layout = layout;
    this.#lines = Array.from({ length: locals }, (_, index) => firstWord + layout.line(index));
    this.#hasJoined = this.#lines.map(() => false);
    this.#own = this.#indexes[rank] ?? 0;
    for (const parity of [0, 1] as const) {
      const head = this.place(rank, parity);
      words.fill(0, head, head + HEAD_BYTES / 4);
    }
    const line = this.#lines[this.#own] ?? 0;
    for (let peer = 0; peer < homes.length; peer++) words[this.#landed(rank, peer)] = initialProgress;
    words[line + ROOMS] = roomsWord;
    Atomics.store(words, line + PROGRESS, initialProgress);
    Atomics.store(words, line + JOINED, this.#mark);
  }

  /** Whether a rank of the group lives in this process. */
  has(rank: number): boolean {
    return this.#indexes[rank] !== ELSEWHERE;
  }

  /** First word of where a rank of this process announces. */
  place(rank: number, parity: 0 | 1): number {
    return this.#firstWord + this.#layout.place(this.#indexes[rank] ?? 0, parity);
  }

  /** This rank has published so many rounds. */
  publish(rounds: number): void {
    Atomics.store(this.#words, (this.#lines[this.#own] ?? 0) + PROGRESS, rounds);
  }

  /** Whether a rank of this process has published so many rounds. */
  hasPublished(rank: number, rounds: number): boolean {
    const index = this.#indexes[rank] ?? 0;
    const line = this.#lines[index] ?? 0;
    if (this.#hasJoined[index] !== true) {
      if (Atomics.load(this.#words, line + JOINED) !== this.#mark) return false;
      this.#hasJoined[index] = true;
    }
    return ((Atomics.load(this.#words, line + PROGRESS) - rounds) | 0) >= 0;
  }

  #landed(rank: number, peer: number): number {
    return this.#firstWord + this.#layout.landed(this.#indexes[rank] ?? 0, peer);
  }

  /** This rank, whose place is `rank`, has landed what a peer elsewhere shares in a round. */
  tellLanded(rank: number, peer: number, round: number): void {
    Atomics.store(this.#words, this.#landed(rank, peer), round);
  }

  /** Whether a rank of this process, which has joined, has landed what a peer elsewhere shares in a round. */
  hasLanded(rank: number, peer: number, round: number): boolean {
    return ((Atomics.load(this.#words, this.#landed(rank, peer)) - round) | 0) >= 0;
  }

  /** First word of the rooms of a rank of this process that has joined. */
  roomsWord(rank: number): number {
    return this.#words[(this.#lines[this.#indexes[rank] ?? 0] ?? 0) + ROOMS] ?? 0;
  }

  /** Tells the ranks of this process that the group is aborted, and why. */
  tellAbort(cause: Error): void {
    const words = this.#words;
    const aborted = (this.#lines[this.#own] ?? 0) + ABORTED;
    if (words[aborted] === this.#mark) return;
    writeErrorRecord(words, this.#firstWord + this.#layout.abortRecord(this.#own), cause);
    Atomics.store(words, aborted, this.#mark);
  }

  /** Why the group is aborted, if a rank of this process says so. */
  abortCause(): Error | undefined {
    for (let index = 0; index < this.#lines.length; index++) {
      if (Atomics.load(this.#words, (this.#lines[index] ?? 0) + ABORTED) !== this.#mark) continue;
      return fromPlainError(readErrorRecord(this.#words, this.#firstWord + this.#layout.abortRecord(index)));
    }
    return undefined;
  }
}
