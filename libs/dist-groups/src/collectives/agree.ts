// Agree: every rank brings a text, every rank gets all texts, in rank order.
//
// A staging area holds the length of its rank's text, then two halves. Round k brings the k-th piece of every text, in
// half k & 1: a rank writes piece k + 1 after it has seen every peer arrive in round k, so every peer has read piece k
// - 1, which lay in that half. As many rounds as the longest text has pieces; all ranks know the lengths after round 0.
// Nothing is allocated in the heap.

import { NO_CODE, OP_CODES, signatureOf } from "../wire/collective-header.ts";
import { type AgreedFields, agreedText, throwUnlessAgreed } from "./agreed-options.ts";
import { checkOptions } from "./arguments.ts";
import type { CollectiveOptions } from "./options.ts";
import type { Collective, GroupMember } from "./rounds.ts";

const OP = "agree";
const NO_SHAPE: readonly number[] = [];
const SIGNATURE = signatureOf(OP_CODES.agree, NO_CODE, NO_CODE, 0, NO_SHAPE.length);
const LENGTH_BYTES = 4;

export class Agree implements Collective {
  bytesReceived = 0;
  readonly #member: GroupMember;
  readonly #pieceBytes: number;
  #own: Uint8Array = new Uint8Array();
  #texts: readonly Uint8Array[] = [];

  constructor(member: GroupMember) {
    this.#member = member;
    this.#pieceBytes = Math.floor((member.transport.stagingBytes - LENGTH_BYTES) / 2);
  }

  prepare(what: string, fields: AgreedFields, options?: CollectiveOptions): void {
    checkOptions(OP, options);
    const text = agreedText(what, fields);
    const { run, transport } = this.#member;
    run.begin(OP, SIGNATURE, NO_SHAPE, 0, options?.deadlineMs);
    this.#own = text;
    this.#texts = [];
    this.bytesReceived = 0;
    transport.words[transport.staging(run.rank)] = text.length;
    this.#write(0);
  }

  /** Everything is announced. */
  transfer(): boolean {
    return false;
  }

  advance(round: number): boolean {
    const { run, transport } = this.#member;
    if (round === 0) {
      this.#texts = run.ranks.map((_, rank) => new Uint8Array(transport.words[transport.staging(rank)] ?? 0));
    }
    const start = round * this.#pieceBytes;
    let longest = 0;
    for (const [rank, text] of this.#texts.entries()) {
      longest = Math.max(longest, text.length);
      const bytes = Math.min(this.#pieceBytes, text.length - start);
      if (bytes <= 0) continue;
      text.set(this.#piece(rank, round, bytes), start);
      if (rank !== run.rank) this.bytesReceived += bytes;
    }
    if (start + this.#pieceBytes >= longest) return false;
    this.#write(round + 1);
    return true;
  }

  /** Throws `OptionsDisagree` unless all texts are the same. Once. */
  result(): void {
    const { run } = this.#member;
    const texts = this.#texts;
    this.#texts = [];
    this.#own = new Uint8Array();
    throwUnlessAgreed(run.name, run.ranks, texts);
  }

  #write(round: number): void {
    const { run, transport } = this.#member;
    const start = round * this.#pieceBytes;
    const piece = this.#own.subarray(start, start + this.#pieceBytes);
    // The half before holds the piece that peers may be reading still: it goes out again as it is.
    transport.fill(LENGTH_BYTES + (round === 0 ? 1 : 2) * this.#pieceBytes);
    if (piece.length > 0) this.#piece(run.rank, round, piece.length).set(piece);
  }

  /** Where a rank's piece of a round lies. */
  #piece(rank: number, round: number, bytes: number): Uint8Array {
    const { transport } = this.#member;
    const at = transport.stagingAddress(rank, transport.parity) + LENGTH_BYTES + (round & 1) * this.#pieceBytes;
    return new Uint8Array(transport.words.buffer, at, bytes);
  }
}
