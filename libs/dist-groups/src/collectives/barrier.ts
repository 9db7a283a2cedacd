// Barrier: one round. A rank that leaves has seen every rank arrive.

import type { GroupMember, Rounds } from "./rounds.ts";
import { OP_CODES, NO_CODE, writeHeader } from "../transport/shared-memory/slot-header.ts";

const NO_SHAPE: readonly number[] = [];

export class Barrier implements Rounds {
  readonly bytesReceived = 0;
  readonly #member: GroupMember;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(deadlineMs: number | undefined): void {
    const { channel } = this.#member;
    const slot = channel.begin("barrier", deadlineMs);
    writeHeader(channel.words, slot, channel.sequence, OP_CODES.barrier, NO_CODE, NO_CODE, 0, NO_SHAPE, 0);
  }

  advance(): boolean {
    return false;
  }
}
