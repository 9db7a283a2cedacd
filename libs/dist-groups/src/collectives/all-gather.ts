// All-gather along a dimension of length L: rank r brings chunk r = [floor(L*r/n), floor(L*(r+1)/n)), every rank gets
// all.
//
// Staged (a chunk fits the staging area), one round: every rank packs its chunk there; every rank copies
// all of them into its output.
// Direct, two rounds: every rank publishes where its input lies; every rank copies straight from the peers' inputs,
// then acknowledges, so that no input changes while a peer still reads it. A rank that reads chunks where they lie copies
// nothing; its peers need not know.
// Contiguous chunks move through cached views; anything else through the strided copy kernel.
// Both move (n - 1) / n of the output to each rank; staging adds one copy of the chunk and saves a round.

import { ArgumentError, describe, type Tensor } from "@lockstep/tensor";
import { firstOfChunk } from "../layout/chunk-rule.ts";
import type { SliceExchange } from "../transport/transport.ts";
import { CONTIGUOUS, headerFlags } from "../wire/collective-header.ts";
import { isViewOfRecord, viewOfRecord, WHOLE_TENSOR } from "../wire/record-view.ts";
import { recordAddress, TENSOR_RECORD_WORDS, writeTensorRecord } from "../wire/tensor-record.ts";
import { AllGatherPlan } from "./all-gather-plan.ts";
import { checkDimNumber, checkLive, checkOptions } from "./arguments.ts";
import { giveAll } from "./give-all.ts";
import type { GatherOptions } from "./options.ts";
import { PlanCache } from "./plan-cache.ts";
import type { Collective, GroupMember } from "./rounds.ts";

const OP = "allGather";

export class AllGather implements Collective {
  bytesReceived = 0;
  readonly #member: GroupMember;
  readonly #plans = new PlanCache<AllGatherPlan>();
  #running: AllGatherPlan | undefined;
  #read: ((chunks: readonly Tensor[]) => unknown) | undefined;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(input: Tensor, output: Tensor, options?: GatherOptions): void {
    checkOptions(OP, options);
    const read = options?.read;
    if (read !== undefined && typeof read !== "function") {
      throw new ArgumentError(OP, "read", "a function", describe(read));
    }
    const dim = options?.dim ?? 0;
    checkDimNumber(OP, dim);
    checkLive(OP, "input", input);
    checkLive(OP, "output", output);
    const { run, transport, table } = this.#member;
    const { words } = transport;
    const plan =
      this.#plans.find(input, output, dim) ?? this.#plans.keep(new AllGatherPlan(this.#member, input, output, dim));
    const { axis, count, direct, moves } = plan;
    run.begin(OP, plan.signature, output.shape, plan.flags, options?.deadlineMs);
    if (direct) {
      writeTensorRecord(words, transport.staging(run.rank), input);
      transport.fill(TENSOR_RECORD_WORDS * 4);
    } else if (run.size > 1) {
      transport.fill(count * plan.rowBytes);
      if (moves !== undefined) moves.stage[transport.parity].run();
      else {
        table.begin(output.dtype, output.shape, axis, count);
        table.packed(0, transport.stagingAddress(run.rank, transport.parity), axis, count, 0);
        table.tensor(1, input, axis, 0);
        table.copy();
      }
    }
    this.#running = plan;
    this.#read = direct ? read : undefined;
    this.bytesReceived = plan.bytesReceived;
  }

  transfer(round: number, slices: SliceExchange): boolean {
    if (round > 0 || this.#running?.direct !== true) return false;
    giveAll(this.#member, slices, 0);
    return true;
  }

  advance(round: number): boolean {
    const plan = this.#running;
    if (round > 0 || plan === undefined) return false;
    const read = this.#read;
    if (read !== undefined) {
      this.#read = undefined;
      // What it does later would read tensors that their ranks may have changed.
      if (read(this.#chunksOf(plan)) instanceof Promise) {
        throw new ArgumentError(OP, "read", "synchronous", "a function that returns a promise");
      }
      return true;
    }
    const { rank, size } = this.#member.run;
    for (let peer = 0; peer < size; peer++) {
      if (peer === rank && plan.inPlace) continue;
      if (plan.moves === undefined || !this.#moveBytes(plan, peer)) this.#copyStrided(plan, peer);
    }
    return plan.direct;
  }

  /** The same list as before when every rank brings the same tensor again. */
  #chunksOf(plan: AllGatherPlan): readonly Tensor[] {
    const { run, transport, heap } = this.#member;
    const { words } = transport;
    const { input, chunks: before } = plan;
    let isSame = before.length === run.size;
    for (let peer = 0; isSame && peer < run.size; peer++) {
      const view = before[peer];
      if (peer === run.rank) isSame = view === input;
      else isSame = view !== undefined && isViewOfRecord(words, transport.staging(peer), view, -1, 0, 0);
    }
    if (!isSame) {
      plan.chunks = run.ranks.map((_, peer) => {
        return peer === run.rank ? input : viewOfRecord(words, transport.staging(peer), heap, WHOLE_TENSOR);
      });
    }
    return plan.chunks;
  }

  /** Moves a rank's chunk by cached views. False when that rank's tensor is not contiguous. */
  #moveBytes(plan: AllGatherPlan, peer: number): boolean {
    const { moves } = plan;
    const { run, transport } = this.#member;
    if (moves === undefined) return false;
    if (peer === run.rank) moves.own.run();
    else if (!plan.direct) moves.unstage[transport.parity][peer]?.run();
    else {
      if ((headerFlags(transport.words, transport.header(peer)) & CONTIGUOUS) === 0) return false;
      const from = recordAddress(transport.words, transport.staging(peer));
      let move = moves.direct[peer];
      if (move === undefined || move.from !== from) {
        move = plan.moveFrom(peer, from);
        moves.direct[peer] = move;
      }
      move.run();
    }
    return true;
  }

  #copyStrided(plan: AllGatherPlan, peer: number): void {
    const { run, transport, table } = this.#member;
    const { rank, size } = run;
    const { input, output, axis, length } = plan;
    const start = firstOfChunk(length, peer, size);
    const count = firstOfChunk(length, peer + 1, size) - start;
    table.begin(output.dtype, output.shape, axis, count);
    table.tensor(0, output, axis, start);
    if (peer === rank) table.tensor(1, input, axis, 0);
    else if (plan.direct) table.record(1, transport.staging(peer), axis, 0);
    else table.packed(1, transport.stagingAddress(peer, transport.parity), axis, count, 0);
    table.copy();
  }
}
