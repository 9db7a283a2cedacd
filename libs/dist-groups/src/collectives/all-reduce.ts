// All-reduce: every rank gets the elementwise reduction of all inputs. The output may be the input.
//
// Staged (the input fits the staging area), one round: every rank folds what all n staged. n times the arithmetic of a
// scatter, but of a small message, and no second round.
// Direct, three rounds: reduce-scatter, then all-gather, both straight from the peers' tensors. Rank r folds chunk r of
// all inputs into chunk r of its output; then everyone copies chunk p from rank p's output; then all acknowledge. In
// place this is safe: in round 0 rank r writes only chunk r of its own tensor, which no peer reads before round 1.
// Chunks cut the flat elements when all tensors are contiguous, else the largest dimension. Cutting does not change a
// bit: each element is folded in rank order, seeded with rank 0's value (or in no order: `deterministic`), by
// whichever rank folds it.

import { isSameView, overlaps, type Tensor } from "@lockstep/tensor";
import { firstOfChunk } from "../layout/chunk-rule.ts";
import { FLAT, type SliceExchange } from "../transport/transport.ts";
import {
  CONTIGUOUS,
  DIRECT,
  DTYPE_CODES,
  headerFlags,
  OP_CODES,
  FOLD_CODES,
  type Fold,
  foldOf,
  signatureOf,
} from "../wire/collective-header.ts";
import { recordWord, TENSOR_RECORD_WORDS, writeTensorRecord } from "../wire/tensor-record.ts";
import {
  checkChunkShape,
  checkDeterministic,
  checkLive,
  checkOptions,
  checkOutput,
  checkReducible,
  checkReductionName,
  checkSameDType,
  checkTensor,
  overlapError,
} from "./arguments.ts";
import type { ReductionOptions } from "./options.ts";
import { PlanCache } from "./plan-cache.ts";
import type { Collective, GroupMember } from "./rounds.ts";

const OP = "allReduce";
const INPUT = 0;
const OUTPUT = 1;

/** What an all-reduce of one input into one output needs, checked once. */
interface AllReducePlan {
  readonly input: Tensor;
  readonly output: Tensor;
  readonly variant: number;
  readonly fold: Fold;
  readonly direct: boolean;
  readonly signature: number;
  readonly flags: number;
  readonly bytesReceived: number;
}

export class AllReduce implements Collective {
  bytesReceived = 0;
  readonly #member: GroupMember;
  readonly #plans = new PlanCache<AllReducePlan>();
  readonly #flatShape = [0];
  #running: AllReducePlan | undefined;
  #shape: readonly number[] = [];
  /** Dimension of `#shape` that is cut into chunks. */
  #axis = 0;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(input: Tensor, output: Tensor, options?: ReductionOptions): void {
    checkOptions(OP, options);
    const reduction = options?.op ?? "sum";
    const deterministic = options?.deterministic ?? "rank-order";
    checkReductionName(OP, reduction);
    checkDeterministic(OP, deterministic);
    checkLive(OP, "input", input);
    checkLive(OP, "output", output);
    const fold = foldOf(reduction, deterministic);
    const { run, transport, table } = this.#member;
    const { rank } = run;
    const { words } = transport;
    const plan = this.#plans.find(input, output, FOLD_CODES[fold]) ?? this.#plans.keep(this.#plan(input, output, fold));
    run.begin(OP, plan.signature, input.shape, plan.flags, options?.deadlineMs);
    transport.fill(plan.direct ? 2 * TENSOR_RECORD_WORDS * 4 : input.byteLength);
    if (plan.direct) {
      writeTensorRecord(words, recordWord(transport.staging(rank), INPUT), input);
      writeTensorRecord(words, recordWord(transport.staging(rank), OUTPUT), output);
    } else {
      table.begin(input.dtype, input.shape, -1, 0);
      table.packed(0, transport.stagingAddress(rank, transport.parity), -1, 0, 0);
      table.tensor(1, input, 0, 0);
      table.copy();
    }
    this.#running = plan;
    this.bytesReceived = plan.bytesReceived;
  }

  #plan(input: Tensor, output: Tensor, fold: Fold): AllReducePlan {
    const { run, heap } = this.#member;
    checkTensor(OP, "input", input, heap);
    checkOutput(OP, "output", output, heap);
    checkSameDType(OP, "output", output, input);
    checkChunkShape(OP, "output", output, input.shape, -1, 0);
    checkReducible(OP, input);
    if (input !== output && overlaps(input, output) && !isSameView(input, output)) {
      throw overlapError(OP, "output", "input");
    }
    const direct = input.byteLength > run.stagedAllReduceLimit;
    const others = run.size - 1;
    return {
      input,
      output,
      variant: FOLD_CODES[fold],
      fold,
      direct,
      signature: signatureOf(OP_CODES.allReduce, DTYPE_CODES[input.dtype], FOLD_CODES[fold], 0, input.shape.length),
      flags: (direct ? DIRECT : 0) | (input.isContiguous && output.isContiguous ? CONTIGUOUS : 0),
      bytesReceived: direct ? Math.round((2 * others * input.byteLength) / run.size) : others * input.byteLength,
    };
  }

  transfer(round: number, slices: SliceExchange): boolean {
    const plan = this.#running;
    if (round > 1 || plan?.direct !== true) return false;
    const { run, transport } = this.#member;
    const { rank, size } = run;
    this.#chooseChunks(plan.input);
    const length = this.#shape[this.#axis] ?? 0;
    const axis = this.#shape === this.#flatShape ? FLAT : this.#axis;
    const first = (chunk: number): number => firstOfChunk(length, chunk, size);
    const record = (of: number): number => recordWord(transport.staging(of), round === 0 ? INPUT : OUTPUT);
    const count = first(rank + 1) - first(rank);
    if (round === 1) slices.share(record(rank), axis, first(rank), count);
    for (let peer = 0; peer < size; peer++) {
      if (peer === rank) continue;
      const theirs = first(peer + 1) - first(peer);
      if (round === 1) slices.takeShared(peer, record(peer), axis, first(peer), theirs);
      else {
        slices.give(peer, record(rank), axis, first(peer), theirs);
        slices.take(peer, record(peer), axis, first(rank), count);
      }
    }
    return true;
  }

  advance(round: number): boolean {
    const plan = this.#running;
    if (plan === undefined) return false;
    const { input, output, fold } = plan;
    if (!plan.direct) {
      this.#foldStaged(input, output, fold);
      return false;
    }
    if (round === 0) this.#foldOwnChunk(input, fold);
    else if (round === 1) this.#gatherChunks(output);
    return round < 2;
  }

  #foldStaged(input: Tensor, output: Tensor, fold: Fold): void {
    const { run, transport, table } = this.#member;
    table.begin(input.dtype, input.shape, -1, 0);
    table.tensor(0, output, 0, 0);
    for (let peer = 0; peer < run.size; peer++) {
      table.packed(1 + peer, transport.stagingAddress(peer, transport.parity), -1, 0, 0);
    }
    table.fold(run.size, fold);
  }

  #foldOwnChunk(input: Tensor, fold: Fold): void {
    const { run } = this.#member;
    const { rank, size } = run;
    this.#chooseChunks(input);
    const length = this.#shape[this.#axis] ?? 0;
    const start = firstOfChunk(length, rank, size);
    this.#beginChunk(input.dtype, firstOfChunk(length, rank + 1, size) - start);
    this.#operand(0, rank, OUTPUT, start);
    for (let peer = 0; peer < size; peer++) this.#operand(1 + peer, peer, INPUT, start);
    this.#member.table.fold(size, fold);
  }

  #gatherChunks(output: Tensor): void {
    const { run, table } = this.#member;
    const { rank, size } = run;
    const length = this.#shape[this.#axis] ?? 0;
    for (let peer = 0; peer < size; peer++) {
      if (peer === rank) continue;
      const start = firstOfChunk(length, peer, size);
      this.#beginChunk(output.dtype, firstOfChunk(length, peer + 1, size) - start);
      this.#operand(0, rank, OUTPUT, start);
      this.#operand(1, peer, OUTPUT, start);
      table.copy();
    }
  }

  /** Every rank sees the same flags and shape, so all cut alike. */
  #chooseChunks(input: Tensor): void {
    const { run, transport } = this.#member;
    let flat = true;
    for (let peer = 0; peer < run.size; peer++) {
      if ((headerFlags(transport.words, transport.header(peer)) & CONTIGUOUS) === 0) flat = false;
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
    const { transport, table } = this.#member;
    const record = recordWord(transport.staging(rank), which);
    if (this.#shape === this.#flatShape) table.flat(k, record, start);
    else table.record(k, record, this.#axis, start);
  }
}
