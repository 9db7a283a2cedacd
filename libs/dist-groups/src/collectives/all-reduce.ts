// All-reduce: every rank gets the elementwise reduction of all inputs. The output may be the input.
//
// Staged (the input fits the staging area), one round: every rank folds all n slots. n times the arithmetic of a scatter,
// but of a small message, and no second round.
// Direct, three rounds: reduce-scatter, then all-gather, both straight from the peers' tensors. Rank r folds chunk r of all
// inputs into chunk r of its output; then everyone copies chunk p from rank p's output; then all acknowledge. In place this
// is safe: in round 0 rank r writes only chunk r of its own tensor, which no peer reads before round 1.
// Chunks cut the flat elements when all tensors are contiguous, else the largest dimension. Cutting does not change a bit:
// each element is folded in rank order, seeded with rank 0's value, by whichever rank folds it.

import type { Tensor } from "@lockstep/tensor";
import { chunkStart } from "../chunk-rule.ts";
import { recordWord, writeTensorRecord } from "../reduction/operand-table.ts";
import { SLOT_HEADER_WORDS } from "../transport/shared-memory/control-block.ts";
import {
  CONTIGUOUS,
  DTYPE_CODES,
  OP_CODES,
  REDUCTION_CODES,
  DIRECT,
  headerFlags,
  type Reduction,
  writeHeader,
} from "../transport/shared-memory/slot-header.ts";
import { checkChunkShape, checkReduction, checkSameDType, checkTensor, overlapError } from "./arguments.ts";
import { isSameView, overlaps } from "./overlap.ts";
import type { GroupMember, Rounds } from "./rounds.ts";

const OP = "allReduce";
const INPUT = 0;
const OUTPUT = 1;

export class AllReduce implements Rounds {
  bytesReceived = 0;
  readonly #member: GroupMember;
  readonly #flatShape = [0];
  #input: Tensor | undefined;
  #output: Tensor | undefined;
  #reduction: Reduction = "sum";
  #direct = false;
  #shape: readonly number[] = [];
  /** Dimension of `#shape` that is cut into chunks. */
  #axis = 0;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(input: Tensor, output: Tensor, reduction: Reduction, deadlineMs: number | undefined): void {
    const { channel, table, heap } = this.#member;
    const { size, words } = channel;
    checkTensor(OP, "input", input, heap);
    checkTensor(OP, "output", output, heap);
    checkSameDType(OP, "output", output, input);
    checkChunkShape(OP, "output", output, input.shape, -1, 0);
    checkReduction(OP, reduction);
    if (input !== output && overlaps(input, output) && !isSameView(input, output)) {
      throw overlapError(OP, "output", "input");
    }
    const direct = input.byteLength > channel.stagedLimit;
    const flags = (direct ? DIRECT : 0) | (input.isContiguous && output.isContiguous ? CONTIGUOUS : 0);
    const slot = channel.begin(OP, deadlineMs);
    writeHeader(
      words,
      slot,
      channel.sequence,
      OP_CODES.allReduce,
      DTYPE_CODES[input.dtype],
      REDUCTION_CODES[reduction],
      0,
      input.shape,
      flags,
    );
    if (direct) {
      writeTensorRecord(words, recordWord(slot + SLOT_HEADER_WORDS, INPUT), input);
      writeTensorRecord(words, recordWord(slot + SLOT_HEADER_WORDS, OUTPUT), output);
    } else {
      table.begin(input.dtype, input.shape, -1, 0);
      table.packed(0, channel.stagingAddress(slot), -1, 0, 0);
      table.tensor(1, input, 0, 0);
      table.copy();
    }
    this.#input = input;
    this.#output = output;
    this.#reduction = reduction;
    this.#direct = direct;
    this.bytesReceived = direct
      ? Math.round((2 * (size - 1) * input.byteLength) / size)
      : (size - 1) * input.byteLength;
  }

  advance(round: number): boolean {
    const input = this.#input;
    const output = this.#output;
    if (input === undefined || output === undefined) return false;
    if (!this.#direct) {
      this.#foldSlots(input, output);
      return false;
    }
    if (round === 0) this.#foldOwnChunk(input);
    else if (round === 1) this.#gatherChunks(output);
    return round < 2;
  }

  #foldSlots(input: Tensor, output: Tensor): void {
    const { channel, table } = this.#member;
    table.begin(input.dtype, input.shape, -1, 0);
    table.tensor(0, output, 0, 0);
    for (let peer = 0; peer < channel.size; peer++) {
      table.packed(1 + peer, channel.stagingAddress(channel.slot(peer)), -1, 0, 0);
    }
    table.fold(channel.size, this.#reduction);
  }

  #foldOwnChunk(input: Tensor): void {
    const { channel } = this.#member;
    const { rank, size } = channel;
    this.#chooseChunks(input);
    const length = this.#shape[this.#axis] ?? 0;
    const start = chunkStart(length, rank, size);
    this.#beginChunk(input.dtype, chunkStart(length, rank + 1, size) - start);
    this.#operand(0, rank, OUTPUT, start);
    for (let peer = 0; peer < size; peer++) this.#operand(1 + peer, peer, INPUT, start);
    this.#member.table.fold(size, this.#reduction);
  }

  #gatherChunks(output: Tensor): void {
    const { channel, table } = this.#member;
    const { rank, size } = channel;
    const length = this.#shape[this.#axis] ?? 0;
    for (let peer = 0; peer < size; peer++) {
      if (peer === rank) continue;
      const start = chunkStart(length, peer, size);
      this.#beginChunk(output.dtype, chunkStart(length, peer + 1, size) - start);
      this.#operand(0, rank, OUTPUT, start);
      this.#operand(1, peer, OUTPUT, start);
      table.copy();
    }
  }

  /** Every rank sees the same flags and shape, so all cut alike. */
  #chooseChunks(input: Tensor): void {
    const { channel } = this.#member;
    let flat = true;
    for (let peer = 0; peer < channel.size; peer++) {
      if ((headerFlags(channel.words, channel.slot(peer)) & CONTIGUOUS) === 0) flat = false;
    }
    this.#flatShape[0] = input.size;
    this.#shape = flat ? this.#flatShape : input.shape;
    this.#axis = 0;
    for (let dim = 1; dim < this.#shape.length; dim++) {
      if ((this.#shape[dim] ?? 0) > (this.#shape[this.#axis] ?? 0)) this.#axis = dim;
    }
  }

  #beginChunk(dtype: Tensor["dtype"], count: number): void {
    this.#member.table.begin(dtype, this.#shape, this.#axis, count);
  }

  /** Operand `k` is a rank's input or output, from index `start` on. */
  #operand(k: number, rank: number, which: number, start: number): void {
    const { channel, table } = this.#member;
    const record = recordWord(channel.slot(rank) + SLOT_HEADER_WORDS, which);
    if (this.#shape === this.#flatShape) table.flat(k, record, start);
    else table.record(k, record, this.#axis, start);
  }
}
