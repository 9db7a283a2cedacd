// Send and receive: every rank may send one tensor to one rank of the group and receive one from one rank. All ranks of
// the group call it together, those with nothing to send or to receive too; rings, halo exchanges and pipelines are
// made of it.
//
// Every staging area says to whom its rank sends and from whom it expects something, with a tensor record of each. A
// small tensor is packed behind and its record points there; else the record points at the tensor and the header is
// flagged direct. All ranks check all pairs, so all report a mismatch. One round; when any header is, a second one
// acknowledges.

import { ArgumentError, describe, overlaps, type Tensor } from "@lockstep/tensor";
import { type SliceExchange, WHOLE } from "../transport/transport.ts";
import { DIRECT, headerFlags, NO_CODE, OP_CODES, signatureOf } from "../wire/collective-header.ts";
import {
  describeRecord,
  recordsAgree,
  recordWord,
  TENSOR_RECORD_WORDS,
  writePackedRecord,
  writeTensorRecord,
} from "../wire/tensor-record.ts";
import { checkOptions, checkOutput, checkTensor, overlapError } from "./arguments.ts";
import type { CollectiveOptions } from "./options.ts";
import type { Collective, GroupMember } from "./rounds.ts";

const OP = "sendRecv";
const NO_SHAPE: readonly number[] = [];
const SIGNATURE = signatureOf(OP_CODES.sendRecv, NO_CODE, NO_CODE, 0, NO_SHAPE.length);
const NOBODY = -1;

/** Words of a staging area: to whom, from whom, then a record of each tensor, then the packed one. */
const TO = 0;
const FROM = 1;
const RECORDS = 2;
const SENT = 0;
const EXPECTED = 1;
const ALIGNMENT = 16;
const PACKED_BYTES = Math.ceil(((RECORDS + 2 * TENSOR_RECORD_WORDS) * 4) / ALIGNMENT) * ALIGNMENT;

export class SendRecv implements Collective {
  bytesReceived = 0;
  readonly #member: GroupMember;
  /** The tensors of the last call, which do not overlap. */
  #sent: Tensor | undefined;
  #received: Tensor | undefined;
  #direct = false;
  #to = NOBODY;
  #from = NOBODY;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(
    sent: Tensor | undefined,
    to: number,
    received: Tensor | undefined,
    from: number,
    options?: CollectiveOptions,
  ): void {
    checkOptions(OP, options);
    const { run, transport, table } = this.#member;
    const { rank } = run;
    const { words } = transport;
    this.#check("send", "to", sent, to);
    this.#check("receive", "from", received, from);
    if (sent !== this.#sent || received !== this.#received) {
      if (sent !== undefined && received !== undefined && overlaps(sent, received)) {
        throw overlapError(OP, "receive", "send");
      }
      this.#sent = sent;
      this.#received = received;
    }
    const room = Math.min(run.stagedLimit, transport.stagingBytes - PACKED_BYTES);
    const direct = sent !== undefined && sent.byteLength > room;
    run.begin(OP, SIGNATURE, NO_SHAPE, direct ? DIRECT : 0, options?.deadlineMs);
    const staging = transport.staging(rank);
    words[staging + TO] = sent === undefined ? NOBODY : to;
    words[staging + FROM] = received === undefined ? NOBODY : from;
    if (received !== undefined) writeTensorRecord(words, recordWord(staging + RECORDS, EXPECTED), received);
    if (sent !== undefined) {
      const record = recordWord(staging + RECORDS, SENT);
      if (direct) writeTensorRecord(words, record, sent);
      else {
        writePackedRecord(words, record, sent, transport.stagingAddress(rank, transport.parity) + PACKED_BYTES);
        table.begin(sent.dtype, sent.shape, -1, 0);
        table.record(0, record, 0, 0);
        table.tensor(1, sent, 0, 0);
        table.copy();
      }
    }
    transport.fill(PACKED_BYTES + (sent === undefined || direct ? 0 : sent.byteLength));
    this.#direct = direct;
    this.#to = to;
    this.#from = from;
    this.bytesReceived = received === undefined || from === rank ? 0 : received.byteLength;
  }

  #check(argument: "send" | "receive", peerArgument: string, tensor: Tensor | undefined, peer: number): void {
    if (tensor === undefined) return;
    const { run, heap } = this.#member;
    if (argument === "receive") checkOutput(OP, argument, tensor, heap);
    else checkTensor(OP, argument, tensor, heap);
    if (Number.isInteger(peer) && peer >= 0 && peer < run.size) return;
    throw new ArgumentError(OP, peerArgument, `a rank of the group, from 0 to ${run.size - 1}`, describe(peer));
  }

  transfer(round: number, slices: SliceExchange): boolean {
    if (round > 0) return false;
    const { run, transport } = this.#member;
    const { rank } = run;
    this.#checkPairs();
    const sent = (of: number): number => recordWord(transport.staging(of) + RECORDS, SENT);
    if (this.#direct && this.#to !== rank) slices.give(this.#to, sent(rank), WHOLE, 0, 0);
    if (this.#received !== undefined && this.#from !== rank && this.#isDirect(this.#from)) {
      slices.take(this.#from, sent(this.#from), WHOLE, 0, 0);
    }
    return this.#isAnyDirect();
  }

  advance(round: number): boolean {
    if (round > 0) return false;
    const { transport, table } = this.#member;
    this.#checkPairs();
    const received = this.#received;
    if (received !== undefined) {
      const staging = transport.staging(this.#from);
      table.begin(received.dtype, received.shape, -1, 0);
      table.tensor(0, received, 0, 0);
      table.record(1, recordWord(staging + RECORDS, SENT), 0, 0);
      table.copy();
    }
    return this.#isAnyDirect();
  }

  #isDirect(rank: number): boolean {
    const { transport } = this.#member;
    return (headerFlags(transport.words, transport.header(rank)) & DIRECT) !== 0;
  }

  #isAnyDirect(): boolean {
    for (let rank = 0; rank < this.#member.run.size; rank++) if (this.#isDirect(rank)) return true;
    return false;
  }

  #checkPairs(): void {
    const { run, transport } = this.#member;
    const { size } = run;
    const { words } = transport;
    for (let rank = 0; rank < size; rank++) {
      const staging = transport.staging(rank);
      const to = words[staging + TO] ?? NOBODY;
      if (to !== NOBODY) {
        const peer = transport.staging(to);
        const sent = recordWord(staging + RECORDS, SENT);
        const expected = recordWord(peer + RECORDS, EXPECTED);
        if (words[peer + FROM] !== rank || !recordsAgree(words, sent, expected)) this.#disagree(rank, to);
      }
      const from = words[staging + FROM] ?? NOBODY;
      if (from !== NOBODY && words[transport.staging(from) + TO] !== rank) this.#disagree(from, rank);
    }
  }

  /** The two sides of a transfer from one rank to another that do not fit. */
  #disagree(from: number, to: number): never {
    const { run } = this.#member;
    return run.disagree([
      { ranks: [run.ranks[from] ?? from], description: this.#describe(from, TO, SENT, "sending", "to") },
      { ranks: [run.ranks[to] ?? to], description: this.#describe(to, FROM, EXPECTED, "expecting", "from") },
    ]);
  }

  #describe(rank: number, peerWord: number, record: number, verb: string, preposition: string): string {
    const { run, transport } = this.#member;
    const { words } = transport;
    const staging = transport.staging(rank);
    const peer = words[staging + peerWord] ?? NOBODY;
    if (peer === NOBODY) return `${OP} ${verb} nothing`;
    const what = describeRecord(words, recordWord(staging + RECORDS, record));
    return `${OP} ${verb} ${what} ${preposition} rank ${run.ranks[peer] ?? peer}`;
  }
}
