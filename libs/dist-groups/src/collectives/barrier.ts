// Barrier: one round. A rank that leaves has seen every rank arrive.

import { NO_CODE, OP_CODES, signatureOf } from "../wire/collective-header.ts";
import { checkOptions } from "./arguments.ts";
import type { CollectiveOptions } from "./options.ts";
import type { Collective, GroupMember } from "./rounds.ts";

const OP = "barrier";
const NO_SHAPE: readonly number[] = [];
const SIGNATURE = signatureOf(OP_CODES.barrier, NO_CODE, NO_CODE, 0, NO_SHAPE.length);

export class Barrier implements Collective {
  readonly bytesReceived = 0;
  readonly #member: GroupMember;

  constructor(member: GroupMember) {
    this.#member = member;
  }

  prepare(options?: CollectiveOptions): void {
    checkOptions(OP, options);
    const { run } = this.#member;
    run.begin(OP, SIGNATURE, NO_SHAPE, 0, options?.deadlineMs);
  }

  transfer(): boolean {
    return false;
  }

  advance(): boolean {
    return false;
  }
}
