// All-gather along a dimension of length L: rank r brings chunk r = [floor(L*r/n), floor(L*(r+1)/n)), every rank gets all.
//
// Staged (a chunk fits the staging area), one round: every rank packs its chunk into its slot; every rank copies all
// slots into its output.
// Direct, two rounds: every rank publishes where its input lies; every rank copies straight from the peers' inputs, then
// acknowledges, so that no input changes while a peer still reads it.
// Contiguous chunks move through cached views; anything else through the strided copy kernel.
// Both move (n - 1) / n of the output to each rank; staging adds one copy of the chunk and saves a round.

import type { Tensor } from "@lockstep/tensor";
import { chunkStart } from "../chunk-rule.ts";
import { recordAddress, writeTensorRecord } from "../reduction/operand-table.ts";
import { SLOT_HEADER_WORDS } from "../transport/shared-memory/control-block.ts";
import {
  CONTIGUOUS,
  DIRECT,
  DTYPE_CODES,
  headerFlags,
  NO_CODE,
  OP_CODES,
  writeHeader,
} from "../transport/shared-memory/slot-header.ts";
import { AllGatherPlan } from "./all-gather-plan.ts";
import type { GroupMember, Rounds } from "./rounds.ts";

const OP = "allGather";
/** Plans that are kept: a program that gathers into more pairs of tensors in turn makes them anew. */
const MOST_PLANS = 8;

export class AllGather implements Rounds {
  bytesReceived = 0;
  readonly #member: GroupMember;
  readonly #plans: AllGatherPlan[] = [];
  #nextPlan = 0;
  #running: AllGatherPlan | undefined;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(input: Tensor, output: Tensor, dim: number, deadlineMs: number | undefined): void {
    const { channel, table } = this.#member;
    const { words } = channel;
    const plan = this.#plan(input, output, dim);
    const { axis, count, direct, moves } = plan;
    const slot = channel.begin(OP, deadlineMs);
    const flags = (direct ? DIRECT : 0) | (input.isContiguous ? CONTIGUOUS : 0);
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
    else if (channel.size > 1) {
      if (moves !== undefined) moves.stage[(channel.sequence & 1) as 0 | 1].run();
      else {
        table.begin(output.dtype, output.shape, axis, count);
        table.packed(0, channel.stagingAddress(slot), axis, count, 0);
        table.tensor(1, input, axis, 0);
        table.copy();
      }
    }
    this.#running = plan;
    this.bytesReceived = plan.bytesReceived;
  }

  #plan(input: Tensor, output: Tensor, dim: number): AllGatherPlan {
    for (let at = 0; at < this.#plans.length; at++) {
      const plan = this.#plans[at];
      if (plan !== undefined && plan.input === input && plan.output === output && plan.dim === dim) return plan;
    }
    const plan = new AllGatherPlan(this.#member, input, output, dim);
    this.#plans[this.#nextPlan] = plan;
    this.#nextPlan = (this.#nextPlan + 1) % MOST_PLANS;
    return plan;
  }

  advance(round: number): boolean {
    const plan = this.#running;
    if (round > 0 || plan === undefined) return false;
    const { rank, size } = this.#member.channel;
    for (let peer = 0; peer < size; peer++) {
      if (peer === rank && plan.inPlace) continue;
      if (plan.moves === undefined || !this.#moveBytes(plan, peer)) this.#copyStrided(plan, peer);
    }
    return plan.direct;
  }

  /** Moves a rank's chunk by cached views. False when that rank's tensor is not contiguous. */
  #moveBytes(plan: AllGatherPlan, peer: number): boolean {
    const { moves } = plan;
    const { channel } = this.#member;
    if (moves === undefined) return false;
    if (peer === channel.rank) moves.own.run();
    else if (!plan.direct) moves.unstage[(channel.sequence & 1) as 0 | 1][peer]?.run();
    else {
      const slot = channel.slot(peer);
      if ((headerFlags(channel.words, slot) & CONTIGUOUS) === 0) return false;
      const from = recordAddress(channel.words, slot + SLOT_HEADER_WORDS);
      let move = moves.direct[peer];
      if (move === undefined || move.from !== from) {
        move = plan.moveFrom(channel, peer, from);
        moves.direct[peer] = move;
      }
      move.run();
    }
    return true;
  }

  #copyStrided(plan: AllGatherPlan, peer: number): void {
    const { channel, table } = this.#member;
    const { rank, size } = channel;
    const { input, output, axis, length } = plan;
    const start = chunkStart(length, peer, size);
    const count = chunkStart(length, peer + 1, size) - start;
    const slot = channel.slot(peer);
    table.begin(output.dtype, output.shape, axis, count);
    table.tensor(0, output, axis, start);
    if (peer === rank) table.tensor(1, input, axis, 0);
    else if (plan.direct) table.record(1, slot + SLOT_HEADER_WORDS, axis, 0);
    else table.packed(1, channel.stagingAddress(slot), axis, count, 0);
    table.copy();
  }
}
