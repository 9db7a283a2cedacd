// Broadcast: every rank gets the root's elements.
//
// Staged, one round: the root packs its tensor into its staging area, the others copy it out. Direct, two rounds: the
// others copy straight from the root's tensor and acknowledge. Every rank waits for every rank, so a broadcast is also
// a barrier.

import { ArgumentError, describe, type Tensor } from "@lockstep/tensor";
import { type SliceExchange, WHOLE } from "../transport/transport.ts";
import { DIRECT, DTYPE_CODES, NO_CODE, OP_CODES, signatureOf } from "../wire/collective-header.ts";
import { TENSOR_RECORD_WORDS, writeTensorRecord } from "../wire/tensor-record.ts";
import { checkOptions, checkOutput, checkTensor } from "./arguments.ts";
import type { CollectiveOptions } from "./options.ts";
import type { Collective, GroupMember } from "./rounds.ts";

const OP = "broadcast";

export class Broadcast implements Collective {
  bytesReceived = 0;
  readonly #member: GroupMember;
  #tensor: Tensor | undefined;
  #root = 0;
  #direct = false;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(tensor: Tensor, root: number, options?: CollectiveOptions): void {
    checkOptions(OP, options);
    const { run, transport, table, heap } = this.#member;
    const { rank, size } = run;
    const { words } = transport;
    if (!Number.isInteger(root) || root < 0 || root >= size) {
      throw new ArgumentError(OP, "root", `a rank of the group, from 0 to ${size - 1}`, describe(root));
    }
    if (rank === root) checkTensor(OP, "tensor", tensor, heap);
    else checkOutput(OP, "tensor", tensor, heap);
    const direct = tensor.byteLength > run.stagedLimit;
    const signature = signatureOf(OP_CODES.broadcast, DTYPE_CODES[tensor.dtype], NO_CODE, root, tensor.shape.length);
    run.begin(OP, signature, tensor.shape, direct ? DIRECT : 0, options?.deadlineMs);
    if (rank === root) transport.fill(direct ? TENSOR_RECORD_WORDS * 4 : tensor.byteLength);
    if (rank === root && direct) writeTensorRecord(words, transport.staging(rank), tensor);
    if (rank === root && !direct) {
      table.begin(tensor.dtype, tensor.shape, -1, 0);
      table.packed(0, transport.stagingAddress(rank, transport.parity), -1, 0, 0);
      table.tensor(1, tensor, 0, 0);
      table.copy();
    }
    this.#tensor = tensor;
    this.#root = root;
    this.#direct = direct;
    this.bytesReceived = rank === root ? 0 : tensor.byteLength;
  }

  transfer(round: number, slices: SliceExchange): boolean {
    if (round > 0 || !this.#direct) return false;
    const { run, transport } = this.#member;
    const record = transport.staging(this.#root);
    if (run.rank === this.#root) slices.share(record, WHOLE, 0, 0);
    else slices.takeShared(this.#root, record, WHOLE, 0, 0);
    return true;
  }

  advance(round: number): boolean {
    const tensor = this.#tensor;
    if (round > 0 || tensor === undefined) return false;
    const { run, transport, table } = this.#member;
    if (run.rank !== this.#root) {
      table.begin(tensor.dtype, tensor.shape, -1, 0);
      table.tensor(0, tensor, 0, 0);
      if (this.#direct) table.record(1, transport.staging(this.#root), 0, 0);
      else table.packed(1, transport.stagingAddress(this.#root, transport.parity), -1, 0, 0);
      table.copy();
    }
    return this.#direct;
  }
}
