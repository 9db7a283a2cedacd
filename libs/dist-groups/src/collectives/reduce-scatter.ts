// Reduce-scatter along a dimension of length L: every rank brings the whole, rank r gets the reduction of chunk
// r = [floor(L*r/n), floor(L*(r+1)/n)) of all of them.
//
// Exchange bytes, then fold locally: rank r reads chunk r of every rank and folds in rank order, seeded with rank 0's
// value, in one pass. The order never depends on timing, message size or protocol.
// Staged (the whole input fits the staging area): one round. Direct: the fold reads the peers' inputs, then acknowledges.

import type { Tensor } from "@lockstep/tensor";
import { chunkStart } from "../chunk-rule.ts";
import { writeTensorRecord } from "../reduction/operand-table.ts";
import { SLOT_HEADER_WORDS } from "../transport/shared-memory/control-block.ts";
import {
  DIRECT,
  type Reduction,
  OP_CODES,
  DTYPE_CODES,
  REDUCTION_CODES,
  writeHeader,
} from "../transport/shared-memory/slot-header.ts";
import { checkChunkShape, checkDim, checkReduction, checkSameDType, checkTensor, overlapError } from "./arguments.ts";
import { isViewAt, overlaps } from "./overlap.ts";
import type { GroupMember, Rounds } from "./rounds.ts";

const OP = "reduceScatter";

export class ReduceScatter implements Rounds {
  bytesReceived = 0;
  readonly #member: GroupMember;
  #input: Tensor | undefined;
  #output: Tensor | undefined;
  #axis = 0;
  #reduction: Reduction = "sum";
  #direct = false;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(input: Tensor, output: Tensor, dim: number, reduction: Reduction, deadlineMs: number | undefined): void {
    const { channel, table, heap } = this.#member;
    const { rank, size, words } = channel;
    checkTensor(OP, "input", input, heap);
    checkTensor(OP, "output", output, heap);
    checkSameDType(OP, "output", output, input);
    checkReduction(OP, reduction);
    const axis = checkDim(OP, dim, input);
    const length = input.shape[axis] ?? 0;
    const start = chunkStart(length, rank, size);
    const count = chunkStart(length, rank + 1, size) - start;
    checkChunkShape(OP, "output", output, input.shape, axis, count);
    if (overlaps(input, output) && !isViewAt(output, input, start * (input.strides[axis] ?? 0), output.shape)) {
      throw overlapError(OP, "output", "input");
    }
    const direct = input.byteLength > channel.stagedLimit;
    const slot = channel.begin(OP, deadlineMs);
    const flags = direct ? DIRECT : 0;
    writeHeader(
      words,
      slot,
      channel.sequence,
      OP_CODES.reduceScatter,
      DTYPE_CODES[input.dtype],
      REDUCTION_CODES[reduction],
      axis,
      input.shape,
      flags,
    );
    if (direct) writeTensorRecord(words, slot + SLOT_HEADER_WORDS, input);
    else {
      table.begin(input.dtype, input.shape, axis, length);
      table.packed(0, channel.stagingAddress(slot), axis, length, 0);
      table.tensor(1, input, axis, 0);
      table.copy();
    }
    this.#input = input;
    this.#output = output;
    this.#axis = axis;
    this.#reduction = reduction;
    this.#direct = direct;
    this.bytesReceived = (size - 1) * output.byteLength;
  }

  advance(round: number): boolean {
    const input = this.#input;
    const output = this.#output;
    if (round > 0 || input === undefined || output === undefined) return false;
    const { channel, table } = this.#member;
    const { rank, size } = channel;
    const axis = this.#axis;
    const length = input.shape[axis] ?? 0;
    const start = chunkStart(length, rank, size);
    const count = chunkStart(length, rank + 1, size) - start;
    table.begin(input.dtype, input.shape, axis, count);
    table.tensor(0, output, axis, 0);
    for (let peer = 0; peer < size; peer++) {
      const slot = channel.slot(peer);
      if (this.#direct) table.record(1 + peer, slot + SLOT_HEADER_WORDS, axis, start);
      else table.packed(1 + peer, channel.stagingAddress(slot), axis, length, start);
    }
    table.fold(size, this.#reduction);
    return this.#direct;
  }
}
