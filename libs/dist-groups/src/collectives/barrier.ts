// Barrier: one round. A rank that leaves has seen every rank arrive.

import type { GroupMember, Rounds } from "./rounds.ts";
import { NO_CODE, OP_CODES, signatureOf } from "../wire/collective-header.ts";

const NO_SHAPE: readonly number[] = [];
const SIGNATURE = signatureOf(OP_CODES.barrier, NO_CODE, NO_CODE, 0, NO_SHAPE.length);

export class Barrier implements Rounds {
  readonly bytesReceived = 0;
  readonly #member: GroupMember;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(deadlineMs: number | undefined): void {
    const { run } = this.#member;
    run.begin("barrier", SIGNATURE, NO_SHAPE, 0, deadlineMs);
  }

  transfer(): boolean {
    return false;
  }

  advance(): boolean {
    return false;
  }
}
