// All-gather of several tensors in one synchronisation, such as partial outputs together with their LSEs: pair i is the
// all-gather of inputs[i] into outputs[i], each of its own shape and dtype, all along the same dimension number.
//
// Every staging area holds two records a pair: where the rank's chunk lies, and the output it expects. When the chunks
// of the largest rank fit the staging area, all ranks pack theirs there, one round; else the records point at the
// inputs, and a second round acknowledges. All ranks compare all expected outputs, so all report a mismatch.

import { ArgumentError, DTYPE_BYTES, overlaps, type Tensor } from "@lockstep/tensor";
import { firstOfChunk } from "../layout/chunk-rule.ts";
import type { SliceExchange } from "../transport/transport.ts";
import { DIRECT, NO_CODE, OP_CODES, signatureOf } from "../wire/collective-header.ts";
import {
  describeRecord,
  recordsAgree,
  recordWord,
  TENSOR_RECORD_WORDS,
  writePackedRecord,
  writeTensorRecord,
} from "../wire/tensor-record.ts";
import { checkAllGather } from "./all-gather-arguments.ts";
import { checkAllLive, checkDimNumber, checkOptions, overlapError } from "./arguments.ts";
import { giveAll } from "./give-all.ts";
import type { DimOptions } from "./options.ts";
import type { Collective, GroupMember } from "./rounds.ts";
import { type TensorListKey, TensorListPlans } from "./tensor-list-plans.ts";

const OP = "allGatherCoalesced";
const ALIGNMENT = 16;
const CHUNK = 0;
const OUTPUT = 1;

/** What a coalesced all-gather of these tensors needs, checked once. */
interface CoalescedPlan extends TensorListKey {
  /** The gathered dimension of each pair. */
  readonly axes: readonly number[];
  readonly signature: number;
  readonly shape: readonly number[];
  readonly direct: boolean;
  readonly bytesReceived: number;
}

export class AllGatherCoalesced implements Collective {
  bytesReceived = 0;
  readonly #member: GroupMember;
  readonly #plans = new TensorListPlans<CoalescedPlan>();
  #running: CoalescedPlan | undefined;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(inputs: readonly Tensor[], outputs: readonly Tensor[], options?: DimOptions): void {
    checkOptions(OP, options);
    const dim = options?.dim ?? 0;
    checkDimNumber(OP, dim);
    checkAllLive(OP, "inputs", inputs);
    checkAllLive(OP, "outputs", outputs);
    const { run, transport, table } = this.#member;
    const { rank } = run;
    const { words } = transport;
    const plan = this.#plans.find(inputs, outputs, dim) ?? this.#plans.keep(this.#plan([...inputs], [...outputs], dim));
    run.begin(OP, plan.signature, plan.shape, plan.direct ? DIRECT : 0, options?.deadlineMs);
    const staging = transport.staging(rank);
    let address = transport.stagingAddress(rank, transport.parity) + recordBytes(plan.inputs.length);
    for (let pair = 0; pair < plan.inputs.length; pair++) {
      const input = plan.inputs[pair];
      const output = plan.outputs[pair];
      if (input === undefined || output === undefined) continue;
      const record = recordWord(staging, 2 * pair + CHUNK);
      writeTensorRecord(words, recordWord(staging, 2 * pair + OUTPUT), output);
      if (plan.direct) writeTensorRecord(words, record, input);
      else {
        writePackedRecord(words, record, input, address);
        table.begin(input.dtype, input.shape, -1, 0);
        table.record(0, record, 0, 0);
        table.tensor(1, input, 0, 0);
        table.copy();
        address += aligned(input.byteLength);
      }
    }
    transport.fill(address - transport.stagingAddress(rank, transport.parity));
    this.#running = plan;
    this.bytesReceived = plan.bytesReceived;
  }

  /** Checks the arguments. */
  #plan(inputs: readonly Tensor[], outputs: readonly Tensor[], dim: number): CoalescedPlan {
    const { run, transport } = this.#member;
    const { size, stagedLimit } = run;
    const most = Math.floor(transport.stagingBytes / (2 * TENSOR_RECORD_WORDS * 4));
    if (inputs.length !== outputs.length || inputs.length === 0 || inputs.length > most) {
      const came = `${inputs.length} inputs and ${outputs.length} outputs`;
      throw new ArgumentError(OP, "outputs", `as many as inputs, from 1 to ${most}`, came);
    }
    const axes: number[] = [];
    let largestChunks = 0;
    let bytesReceived = 0;
    for (const [pair, output] of outputs.entries()) {
      const input = inputs[pair];
      if (input === undefined) continue;
      const { axis, length, count } = checkAllGather(OP, this.#member, input, output, dim, `[${pair}]`);
      const rowBytes = length === 0 ? 0 : (output.size / length) * DTYPE_BYTES[output.dtype];
      axes.push(axis);
      largestChunks += aligned(Math.ceil(length / size) * rowBytes);
      bytesReceived += (length - count) * rowBytes;
      for (const [other, tensor] of [...inputs, ...outputs].entries()) {
        if (other === pair || other === inputs.length + pair || !overlaps(output, tensor)) continue;
        const name = other < inputs.length ? `inputs[${other}]` : `outputs[${other - inputs.length}]`;
        throw overlapError(OP, `outputs[${pair}]`, name);
      }
    }
    const room = Math.min(stagedLimit, transport.stagingBytes - recordBytes(inputs.length));
    return {
      inputs,
      outputs,
      variant: dim,
      axes,
      signature: signatureOf(OP_CODES[OP], NO_CODE, NO_CODE, dim & 0xff, 1),
      shape: [inputs.length],
      direct: largestChunks > room,
      bytesReceived,
    };
  }

  transfer(round: number, slices: SliceExchange): boolean {
    const plan = this.#running;
    if (round > 0 || plan?.direct !== true) return false;
    this.#checkOutputs(plan);
    for (let pair = 0; pair < plan.inputs.length; pair++) giveAll(this.#member, slices, 2 * pair + CHUNK);
    return true;
  }

  advance(round: number): boolean {
    const plan = this.#running;
    if (round > 0 || plan === undefined) return false;
    const { run, transport, table } = this.#member;
    const { rank, size } = run;
    this.#checkOutputs(plan);
    for (let pair = 0; pair < plan.outputs.length; pair++) {
      const output = plan.outputs[pair];
      const axis = plan.axes[pair] ?? 0;
      if (output === undefined) continue;
      const length = output.shape[axis] ?? 0;
      for (let peer = 0; peer < size; peer++) {
        const start = firstOfChunk(length, peer, size);
        table.begin(output.dtype, output.shape, axis, firstOfChunk(length, peer + 1, size) - start);
        table.tensor(0, output, axis, start);
        const input = plan.inputs[pair];
        if (peer === rank && input !== undefined) table.tensor(1, input, axis, 0);
        else table.record(1, recordWord(transport.staging(peer), 2 * pair + CHUNK), 0, 0);
        table.copy();
      }
    }
    return plan.direct;
  }

  /** All ranks compare the same records in the same order, and so come to the same end. */
  #checkOutputs(plan: CoalescedPlan): void {
    const { run, transport } = this.#member;
    for (let pair = 0; pair < plan.outputs.length; pair++) {
      const first = recordWord(transport.staging(0), 2 * pair + OUTPUT);
      for (let peer = 1; peer < run.size; peer++) {
        const other = recordWord(transport.staging(peer), 2 * pair + OUTPUT);
        if (!recordsAgree(transport.words, first, other)) this.#disagree(pair);
      }
    }
  }

  /** Ranks on one side expect the same output. */
  #disagree(pair: number): never {
    const { run, transport } = this.#member;
    const { words } = transport;
    const sides: { record: number; ranks: number[] }[] = [];
    for (const [peer, rank] of run.ranks.entries()) {
      const record = recordWord(transport.staging(peer), 2 * pair + OUTPUT);
      const side = sides.find((candidate) => recordsAgree(words, candidate.record, record));
      if (side === undefined) sides.push({ record, ranks: [rank] });
      else side.ranks.push(rank);
    }
    return run.disagree(
      sides.map(({ record, ranks }) => ({
        ranks,
        description: `${OP} into ${describeRecord(words, record)} as output ${pair}`,
      })),
    );
  }
}

function recordBytes(pairs: number): number {
  return aligned(2 * pairs * TENSOR_RECORD_WORDS * 4);
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
