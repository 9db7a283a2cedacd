// Broadcast: every rank gets the root's elements.
//
// Staged, one round: the root packs its tensor into its staging area, the others copy it out. Direct, two rounds: the others copy
// straight from the root's tensor and acknowledge. Every rank waits for every rank, so a broadcast is also a barrier.

import { ArgumentError, describe, type Tensor } from "@lockstep/tensor";
import { DIRECT, DTYPE_CODES, NO_CODE, OP_CODES, signatureOf } from "../wire/collective-header.ts";
import { checkOutput, checkTensor } from "./arguments.ts";
import type { GroupMember, Rounds } from "./rounds.ts";
import { writeTensorRecord } from "../wire/tensor-record.ts";

const OP = "broadcast";

export class Broadcast implements Rounds {
  bytesReceived = 0;
  readonly #member: GroupMember;
  #tensor: Tensor | undefined;
  #root = 0;
  #direct = false;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(tensor: Tensor, root: number, deadlineMs: number | undefined): void {
    const { channel, table, heap } = this.#member;
    const { rank, size, words } = channel;
    if (!Number.isInteger(root) || root < 0 || root >= size) {
      throw new ArgumentError(OP, "root", `a rank of the group, from 0 to ${size - 1}`, describe(root));
    }
    if (rank === root) checkTensor(OP, "tensor", tensor, heap);
    else checkOutput(OP, "tensor", tensor, heap);
    const direct = tensor.byteLength > channel.stagedLimit;
    const signature = signatureOf(OP_CODES.broadcast, DTYPE_CODES[tensor.dtype], NO_CODE, root, tensor.shape.length);
    channel.begin(OP, signature, tensor.shape, direct ? DIRECT : 0, deadlineMs);
    if (rank === root && direct) writeTensorRecord(words, channel.staging(rank), tensor);
    if (rank === root && !direct) {
      table.begin(tensor.dtype, tensor.shape, -1, 0);
      table.packed(0, channel.stagingAddress(rank), -1, 0, 0);
      table.tensor(1, tensor, 0, 0);
      table.copy();
    }
    this.#tensor = tensor;
    this.#root = root;
    this.#direct = direct;
    this.bytesReceived = rank === root ? 0 : tensor.byteLength;
  }

  advance(round: number): boolean {
    const tensor = this.#tensor;
    if (round > 0 || tensor === undefined) return false;
    const { channel, table } = this.#member;
    if (channel.rank !== this.#root) {
      table.begin(tensor.dtype, tensor.shape, -1, 0);
      table.tensor(0, tensor, 0, 0);
      if (this.#direct) table.record(1, channel.staging(this.#root), 0, 0);
      else table.packed(1, channel.stagingAddress(this.#root), -1, 0, 0);
      table.copy();
    }
    return this.#direct;
  }
}
