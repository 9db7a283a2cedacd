// All-to-all: inputs[p] of this rank goes to outputs[this rank] of rank p. One tensor per peer, each of its own shape,
// dtype and strides; a pair must agree on shape and dtype.
//
// Every staging area holds 2n tensor records: what the rank sends to each peer and what it expects from each. When a
// rank's inputs fit its staging area it packs them there and its records point at the copies; else they point at the
// inputs themselves and the header is flagged direct. Receivers need not care. All ranks check all n * n pairs, so all
// report a mismatch. When any header is, a second round acknowledges.

import { ArgumentError, overlaps, type Tensor } from "@lockstep/tensor";
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
import { checkAllLive, checkOptions, checkOutput, checkTensor, overlapError } from "./arguments.ts";
import type { CollectiveOptions } from "./options.ts";
import type { Collective, GroupMember } from "./rounds.ts";
import { type TensorListKey, TensorListPlans } from "./tensor-list-plans.ts";

const OP = "allToAll";
const NO_SHAPE: readonly number[] = [];
const SIGNATURE = signatureOf(OP_CODES.allToAll, NO_CODE, NO_CODE, 0, NO_SHAPE.length);
const ALIGNMENT = 16;

/** What an all-to-all between these tensors needs, checked once. */
interface AllToAllPlan extends TensorListKey {
  readonly direct: boolean;
  readonly bytesReceived: number;
}

export class AllToAll implements Collective {
  bytesReceived = 0;
  readonly #member: GroupMember;
  readonly #plans = new TensorListPlans<AllToAllPlan>();
  #running: AllToAllPlan | undefined;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  /** Bytes of the records at the start of a staging area. */
  static recordBytes(size: number): number {
    return Math.ceil((2 * size * TENSOR_RECORD_WORDS * 4) / ALIGNMENT) * ALIGNMENT;
  }

  prepare(inputs: readonly Tensor[], outputs: readonly Tensor[], options?: CollectiveOptions): void {
    checkOptions(OP, options);
    checkAllLive(OP, "inputs", inputs);
    checkAllLive(OP, "outputs", outputs);
    const { run, transport } = this.#member;
    const { rank, size } = run;
    const { words } = transport;
    const plan = this.#plans.find(inputs, outputs, 0) ?? this.#plans.keep(this.#plan(inputs, outputs));
    run.begin(OP, SIGNATURE, NO_SHAPE, plan.direct ? DIRECT : 0, options?.deadlineMs);
    const staging = transport.staging(rank);
    let address = transport.stagingAddress(rank, transport.parity) + AllToAll.recordBytes(size);
    for (let peer = 0; peer < size; peer++) {
      const input = plan.inputs[peer];
      const output = plan.outputs[peer];
      if (input === undefined || output === undefined) continue;
      const record = recordWord(staging, peer);
      writeTensorRecord(words, recordWord(staging, size + peer), output);
      if (plan.direct || peer === rank) writeTensorRecord(words, record, input);
      else {
        writePackedRecord(words, record, input, address);
        this.#copy(record, input, 0);
        address += aligned(input.byteLength);
      }
    }
    transport.fill(address - transport.stagingAddress(rank, transport.parity));
    this.#running = plan;
    this.bytesReceived = plan.bytesReceived;
  }

  #plan(inputs: readonly Tensor[], outputs: readonly Tensor[]): AllToAllPlan {
    const { run, transport } = this.#member;
    const { rank, size, stagedLimit } = run;
    this.#check(inputs, outputs);
    const packedBytes = inputs.reduce((sum, input) => sum + aligned(input.byteLength), 0);
    return {
      inputs: [...inputs],
      outputs: [...outputs],
      variant: 0,
      direct: packedBytes > Math.min(stagedLimit, transport.stagingBytes - AllToAll.recordBytes(size)),
      bytesReceived: outputs.reduce((sum, output, peer) => sum + (peer === rank ? 0 : output.byteLength), 0),
    };
  }

  #check(inputs: readonly Tensor[], outputs: readonly Tensor[]): void {
    this.#checkTensors("inputs", inputs, checkTensor);
    this.#checkTensors("outputs", outputs, checkOutput);
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

  #checkTensors(argument: string, tensors: readonly Tensor[], check: typeof checkTensor): void {
    const { run, heap } = this.#member;
    if (tensors.length !== run.size) {
      throw new ArgumentError(OP, argument, `${run.size} tensors, one per rank`, `${tensors.length} tensors`);
    }
    for (const tensor of tensors) check(OP, argument, tensor, heap);
  }

  transfer(round: number, slices: SliceExchange): boolean {
    if (round > 0) return false;
    const { run, transport } = this.#member;
    const { rank, size } = run;
    this.#checkPairs();
    let any = false;
    for (let peer = 0; peer < size; peer++) {
      const takes = (headerFlags(transport.words, transport.header(peer)) & DIRECT) !== 0;
      if (takes) any = true;
      if (peer === rank) continue;
      if (this.#running?.direct === true) {
        slices.give(peer, recordWord(transport.staging(rank), peer), WHOLE, 0, 0);
      }
      if (takes) slices.take(peer, recordWord(transport.staging(peer), rank), WHOLE, 0, 0);
    }
    return any;
  }

  advance(round: number): boolean {
    const plan = this.#running;
    if (round > 0 || plan === undefined) return false;
    const { run, transport } = this.#member;
    const { rank, size } = run;
    const { words } = transport;
    this.#checkPairs();
    let acknowledge = false;
    for (let peer = 0; peer < size; peer++) {
      const output = plan.outputs[peer];
      if (output === undefined) continue;
      if ((headerFlags(words, transport.header(peer)) & DIRECT) !== 0) acknowledge = true;
      this.#copy(recordWord(transport.staging(peer), rank), output, 1);
    }
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
    const { run, transport } = this.#member;
    const { size } = run;
    const { words } = transport;
    for (let from = 0; from < size; from++) {
      const staging = transport.staging(from);
      for (let to = 0; to < size; to++) {
        const sent = recordWord(staging, to);
        const expected = recordWord(transport.staging(to), size + from);
        if (!recordsAgree(words, sent, expected)) this.#disagree(from, to, sent, expected);
      }
    }
  }

  #disagree(from: number, to: number, sent: number, expected: number): void {
    const { run, transport } = this.#member;
    const sender = run.ranks[from] ?? from;
    const receiver = run.ranks[to] ?? to;
    run.disagree([
      { ranks: [sender], description: `allToAll sending ${describeRecord(transport.words, sent)} to rank ${receiver}` },
      {
        ranks: [receiver],
        description: `allToAll expecting ${describeRecord(transport.words, expected)} from rank ${sender}`,
      },
    ]);
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
