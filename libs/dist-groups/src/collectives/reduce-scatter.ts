// Reduce-scatter along a dimension of length L: every rank brings the whole, rank r gets the reduction of chunk
// r = [floor(L*r/n), floor(L*(r+1)/n)) of all of them.
//
// Exchange bytes, then fold locally: rank r reads chunk r of every rank and folds in rank order, seeded with rank 0's
// value, in one pass. The order never depends on timing, message size or protocol.
// Staged (the whole input fits the staging area): one round. Direct: the fold reads the peers' inputs, then
// acknowledges.

import { isViewAt, overlaps, type Tensor } from "@lockstep/tensor";
import { firstOfChunk } from "../layout/chunk-rule.ts";
import type { SliceExchange } from "../transport/transport.ts";
import {
  DIRECT,
  DTYPE_CODES,
  MAX_DIMS,
  OP_CODES,
  FOLD_CODES,
  type Fold,
  foldOf,
  signatureOf,
} from "../wire/collective-header.ts";
import { TENSOR_RECORD_WORDS, writeTensorRecord } from "../wire/tensor-record.ts";
import {
  checkChunkShape,
  checkDeterministic,
  checkDim,
  checkDimNumber,
  checkLive,
  checkOptions,
  checkOutput,
  checkReducible,
  checkReductionName,
  checkSameDType,
  checkTensor,
  overlapError,
} from "./arguments.ts";
import type { DimOptions, ReductionOptions } from "./options.ts";
import { PlanCache } from "./plan-cache.ts";
import type { Collective, GroupMember } from "./rounds.ts";

const OP = "reduceScatter";

/** What a reduce-scatter of one input into one output needs, worked out and checked once. */
interface ReduceScatterPlan {
  readonly input: Tensor;
  readonly output: Tensor;
  readonly variant: number;
  readonly axis: number;
  readonly fold: Fold;
  readonly length: number;
  /** This rank's chunk of the dimension. */
  readonly start: number;
  readonly count: number;
  readonly direct: boolean;
  readonly signature: number;
  readonly bytesReceived: number;
}

export class ReduceScatter implements Collective {
  bytesReceived = 0;
  readonly #member: GroupMember;
  readonly #plans = new PlanCache<ReduceScatterPlan>();
  #running: ReduceScatterPlan | undefined;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(input: Tensor, output: Tensor, options?: DimOptions & ReductionOptions): void {
    checkOptions(OP, options);
    const dim = options?.dim ?? 0;
    const reduction = options?.op ?? "sum";
    checkDimNumber(OP, dim);
    const deterministic = options?.deterministic ?? "rank-order";
    checkReductionName(OP, reduction);
    checkDeterministic(OP, deterministic);
    checkLive(OP, "input", input);
    checkLive(OP, "output", output);
    const fold = foldOf(reduction, deterministic);
    const { run, transport, table } = this.#member;
    const { rank } = run;
    const { words } = transport;
    const plan =
      this.#plans.find(input, output, variantOf(dim, fold)) ?? this.#plans.keep(this.#plan(input, output, dim, fold));
    const { axis, length, direct } = plan;
    run.begin(OP, plan.signature, input.shape, direct ? DIRECT : 0, options?.deadlineMs);
    transport.fill(direct ? TENSOR_RECORD_WORDS * 4 : input.byteLength);
    if (direct) writeTensorRecord(words, transport.staging(rank), input);
    else {
      table.begin(input.dtype, input.shape, axis, length);
      table.packed(0, transport.stagingAddress(rank, transport.parity), axis, length, 0);
      table.tensor(1, input, axis, 0);
      table.copy();
    }
    this.#running = plan;
    this.bytesReceived = plan.bytesReceived;
  }

  #plan(input: Tensor, output: Tensor, dim: number, fold: Fold): ReduceScatterPlan {
    const { run, heap } = this.#member;
    const { rank, size } = run;
    checkTensor(OP, "input", input, heap);
    checkOutput(OP, "output", output, heap);
    checkSameDType(OP, "output", output, input);
    checkReducible(OP, input);
    const axis = checkDim(OP, dim, input);
    const length = input.shape[axis] ?? 0;
    const start = firstOfChunk(length, rank, size);
    const count = firstOfChunk(length, rank + 1, size) - start;
    checkChunkShape(OP, "output", output, input.shape, axis, count);
    if (overlaps(input, output) && !isViewAt(output, input, start * (input.strides[axis] ?? 0), output.shape)) {
      throw overlapError(OP, "output", "input");
    }
    return {
      input,
      output,
      variant: variantOf(dim, fold),
      axis,
      fold,
      length,
      start,
      count,
      signature: signatureOf(
        OP_CODES.reduceScatter,
        DTYPE_CODES[input.dtype],
        FOLD_CODES[fold],
        axis,
        input.shape.length,
      ),
      direct: input.byteLength > run.stagedLimit,
      bytesReceived: (size - 1) * output.byteLength,
    };
  }

  transfer(round: number, slices: SliceExchange): boolean {
    const plan = this.#running;
    if (round > 0 || plan?.direct !== true) return false;
    const { run, transport } = this.#member;
    const { rank, size } = run;
    const { axis, length, start, count } = plan;
    for (let peer = 0; peer < size; peer++) {
      if (peer === rank) continue;
      const theirs = firstOfChunk(length, peer, size);
      const their = firstOfChunk(length, peer + 1, size) - theirs;
      slices.give(peer, transport.staging(rank), axis, theirs, their);
      slices.take(peer, transport.staging(peer), axis, start, count);
    }
    return true;
  }

  advance(round: number): boolean {
    const plan = this.#running;
    if (round > 0 || plan === undefined) return false;
    const { run, transport, table } = this.#member;
    const { size } = run;
    const { input, output, axis, length, start, count, direct } = plan;
    table.begin(input.dtype, input.shape, axis, count);
    table.tensor(0, output, axis, 0);
    for (let peer = 0; peer < size; peer++) {
      if (direct) table.record(1 + peer, transport.staging(peer), axis, start);
      else table.packed(1 + peer, transport.stagingAddress(peer, transport.parity), axis, length, start);
    }
    table.fold(size, plan.fold);
    return direct;
  }
}

function variantOf(dim: number, fold: Fold): number {
  return dim + (FOLD_CODES[fold] ?? Number.NaN) * 4 * MAX_DIMS;
}
