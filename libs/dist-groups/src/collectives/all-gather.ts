// All-gather along a dimension of length L: rank r brings chunk r = [floor(L*r/n), floor(L*(r+1)/n)), every rank gets all.
//
// Staged (a chunk fits the staging area), one round: every rank packs its chunk into its slot; every rank copies all
// slots into its output.
// Direct, two rounds: every rank publishes where its input lies; every rank copies straight from the peers' inputs, then
// acknowledges, so that no input changes while a peer still reads it.
// Both move (n - 1) / n of the output to each rank; staging adds one copy of the chunk and saves a round.

import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";
import { chunkStart } from "../chunk-rule.ts";
import { writeTensorRecord } from "../reduction/operand-table.ts";
import { SLOT_HEADER_WORDS } from "../transport/shared-memory/control-block.ts";
import { DIRECT, OP_CODES, DTYPE_CODES, NO_CODE, writeHeader } from "../transport/shared-memory/slot-header.ts";
import { checkChunkShape, checkDim, checkSameDType, checkTensor, overlapError } from "./arguments.ts";
import { isViewAt, overlaps } from "./overlap.ts";
import type { GroupMember, Rounds } from "./rounds.ts";

const OP = "allGather";

export class AllGather implements Rounds {
  bytesReceived = 0;
  readonly #member: GroupMember;
  #input: Tensor | undefined;
  #output: Tensor | undefined;
  #axis = 0;
  #direct = false;
  #inPlace = false;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(input: Tensor, output: Tensor, dim: number, deadlineMs: number | undefined): void {
    const { channel, table, heap } = this.#member;
    const { rank, size, words } = channel;
    checkTensor(OP, "input", input, heap);
    checkTensor(OP, "output", output, heap);
    checkSameDType(OP, "input", input, output);
    const axis = checkDim(OP, dim, output);
    const length = output.shape[axis] ?? 0;
    const start = chunkStart(length, rank, size);
    const count = chunkStart(length, rank + 1, size) - start;
    checkChunkShape(OP, "input", input, output.shape, axis, count);
    const shared = overlaps(input, output);
    if (shared && !isViewAt(input, output, start * (output.strides[axis] ?? 0), input.shape)) {
      throw overlapError(OP, "output", "input");
    }
    const rowBytes = length === 0 ? 0 : (output.size / length) * DTYPE_BYTES[output.dtype];
    const direct = Math.ceil(length / size) * rowBytes > channel.stagedLimit;
    const slot = channel.begin(OP, deadlineMs);
    const flags = direct ? DIRECT : 0;
    writeHeader(
      words,
      slot,
      channel.sequence,
      OP_CODES.allGather,
      DTYPE_CODES[output.dtype],
      NO_CODE,
      axis,
      output.shape,
      flags,
    );
    if (direct) writeTensorRecord(words, slot + SLOT_HEADER_WORDS, input);
    else if (size > 1) {
      table.begin(output.dtype, output.shape, axis, count);
      table.packed(0, channel.stagingAddress(slot), axis, count, 0);
      table.tensor(1, input, axis, 0);
      table.copy();
    }
    this.#input = input;
    this.#output = output;
    this.#axis = axis;
    this.#direct = direct;
    this.#inPlace = shared;
    this.bytesReceived = (length - count) * rowBytes;
  }

  advance(round: number): boolean {
    const input = this.#input;
    const output = this.#output;
    if (round > 0 || input === undefined || output === undefined) return false;
    const { channel, table } = this.#member;
    const { rank, size } = channel;
    const axis = this.#axis;
    const length = output.shape[axis] ?? 0;
    for (let peer = 0; peer < size; peer++) {
      if (peer === rank && this.#inPlace) continue;
      const start = chunkStart(length, peer, size);
      const count = chunkStart(length, peer + 1, size) - start;
      const slot = channel.slot(peer);
      table.begin(output.dtype, output.shape, axis, count);
      table.tensor(0, output, axis, start);
      if (peer === rank) table.tensor(1, input, axis, 0);
      else if (this.#direct) table.record(1, slot + SLOT_HEADER_WORDS, axis, 0);
      else table.packed(1, channel.stagingAddress(slot), axis, count, 0);
      table.copy();
    }
    return this.#direct;
  }
}
