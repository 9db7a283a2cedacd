// All-to-all: inputs[p] of this rank goes to outputs[this rank] of rank p. One tensor per peer, each of its own shape,
// dtype and strides; a pair must agree on shape and dtype.
//
// Every slot holds 2n tensor records: what the rank sends to each peer and what it expects from each. When a rank's inputs
// fit its staging area it packs them there and its records point at the copies; else they point at the inputs themselves
// and the slot is flagged direct. Receivers need not care. All ranks check all n * n pairs, so all report a mismatch. When
// any slot is direct, a second round acknowledges.

import { ArgumentError, type Tensor } from "@lockstep/tensor";
import { recordWord, writePackedRecord, writeTensorRecord } from "../reduction/operand-table.ts";
import { SLOT_HEADER_WORDS, TENSOR_RECORD_WORDS } from "../transport/shared-memory/control-block.ts";
import { DIRECT, headerFlags, OP_CODES, NO_CODE, writeHeader } from "../transport/shared-memory/slot-header.ts";
import { checkTensor, overlapError } from "./arguments.ts";
import { overlaps } from "./overlap.ts";
import { describeRecord, recordsAgree } from "./record-agreement.ts";
import type { GroupMember, Rounds } from "./rounds.ts";

const OP = "allToAll";
const NO_SHAPE: readonly number[] = [];
const NO_TENSORS: readonly Tensor[] = [];
const ALIGNMENT = 16;

export class AllToAll implements Rounds {
  bytesReceived = 0;
  readonly #member: GroupMember;
  #outputs = NO_TENSORS;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  /** Bytes of the records at the start of a slot's staging area. */
  static recordBytes(size: number): number {
    return Math.ceil((2 * size * TENSOR_RECORD_WORDS * 4) / ALIGNMENT) * ALIGNMENT;
  }

  prepare(inputs: readonly Tensor[], outputs: readonly Tensor[], deadlineMs: number | undefined): void {
    const { channel } = this.#member;
    const { rank, size, words, layout } = channel;
    this.#check(inputs, outputs);
    let packedBytes = 0;
    for (const input of inputs) packedBytes += aligned(input.byteLength);
    const direct = packedBytes > Math.min(channel.stagedLimit, layout.stagingBytes - AllToAll.recordBytes(size));
    const slot = channel.begin(OP, deadlineMs);
    writeHeader(words, slot, channel.sequence, OP_CODES.allToAll, NO_CODE, NO_CODE, 0, NO_SHAPE, direct ? DIRECT : 0);
    const staging = slot + SLOT_HEADER_WORDS;
    let address = channel.stagingAddress(slot) + AllToAll.recordBytes(size);
    for (let peer = 0; peer < size; peer++) {
      const input = inputs[peer];
      const output = outputs[peer];
      if (input === undefined || output === undefined) continue;
      const record = recordWord(staging, peer);
      writeTensorRecord(words, recordWord(staging, size + peer), output);
      if (direct || peer === rank) writeTensorRecord(words, record, input);
      else {
        writePackedRecord(words, record, input, address);
        this.#copy(record, input, 0);
        address += aligned(input.byteLength);
      }
    }
    this.#outputs = outputs;
    this.bytesReceived = 0;
    for (let peer = 0; peer < size; peer++) if (peer !== rank) this.bytesReceived += outputs[peer]?.byteLength ?? 0;
  }

  #check(inputs: readonly Tensor[], outputs: readonly Tensor[]): void {
    this.#checkTensors("inputs", inputs);
    this.#checkTensors("outputs", outputs);
    for (let at = 0; at < outputs.length; at++) {
      const output = outputs[at];
      if (output === undefined) continue;
      for (const input of inputs) if (overlaps(input, output)) throw overlapError(OP, `outputs[${at}]`, "inputs");
      for (let other = 0; other < at; other++) {
        const before = outputs[other];
        if (before !== undefined && overlaps(before, output)) {
          throw overlapError(OP, `outputs[${at}]`, `outputs[${other}]`);
        }
      }
    }
  }

  #checkTensors(argument: string, tensors: readonly Tensor[]): void {
    const { channel, heap } = this.#member;
    if (tensors.length !== channel.size) {
      throw new ArgumentError(OP, argument, `${channel.size} tensors, one per rank`, `${tensors.length} tensors`);
    }
    for (const tensor of tensors) checkTensor(OP, argument, tensor, heap);
  }

  advance(round: number): boolean {
    if (round > 0) return false;
    const { channel } = this.#member;
    const { rank, size, words } = channel;
    this.#checkPairs();
    let acknowledge = false;
    for (let peer = 0; peer < size; peer++) {
      const output = this.#outputs[peer];
      if (output === undefined) continue;
      const slot = channel.slot(peer);
      if ((headerFlags(words, slot) & DIRECT) !== 0) acknowledge = true;
      this.#copy(recordWord(slot + SLOT_HEADER_WORDS, rank), output, 1);
    }
    this.#outputs = NO_TENSORS;
    return acknowledge;
  }

  /** Copies between a tensor and what a record of the same shape describes, which is operand `recordOperand`. */
  #copy(record: number, tensor: Tensor, recordOperand: 0 | 1): void {
    const { table } = this.#member;
    table.begin(tensor.dtype, tensor.shape, -1, 0);
    table.record(recordOperand, record, 0, 0);
    table.tensor(1 - recordOperand, tensor, 0, 0);
    table.copy();
  }

  #checkPairs(): void {
    const { channel } = this.#member;
    const { size, words } = channel;
    for (let from = 0; from < size; from++) {
      const staging = channel.slot(from) + SLOT_HEADER_WORDS;
      for (let to = 0; to < size; to++) {
        const sent = recordWord(staging, to);
        const expected = recordWord(channel.slot(to) + SLOT_HEADER_WORDS, size + from);
        if (!recordsAgree(words, sent, expected)) this.#disagree(from, to, sent, expected);
      }
    }
  }

  #disagree(from: number, to: number, sent: number, expected: number): void {
    const { channel } = this.#member;
    const sender = channel.ranks[from] ?? from;
    const receiver = channel.ranks[to] ?? to;
    channel.disagree([
      { ranks: [sender], description: `allToAll sending ${describeRecord(channel.words, sent)} to rank ${receiver}` },
      {
        ranks: [receiver],
        description: `allToAll expecting ${describeRecord(channel.words, expected)} from rank ${sender}`,
      },
    ]);
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
