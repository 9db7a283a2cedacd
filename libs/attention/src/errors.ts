import { LockstepError, registerErrorClass } from "@lockstep/tensor";

/** A step needs more KV blocks than are free. Nothing was reserved or written; what is stored stays readable. */
export class OutOfBlocks extends LockstepError {
  static {
    registerErrorClass("OutOfBlocks", OutOfBlocks);
  }

  readonly _tag = "OutOfBlocks";
  readonly needed: number;
  readonly free: number;
  readonly total: number;

  constructor(needed: number, free: number, total: number) {
    super(
      `out of KV blocks: the step needs ${needed} more, ${free} of ${total} are free. ` +
        "Free a sequence, or open DcpAttention with more numBlocks.",
    );
    this.needed = needed;
    this.free = free;
    this.total = total;
  }
}

/** A DcpAttention method was called outside the order createSequence, beginStep, write / attend, endStep. */
export class StepOrderError extends LockstepError {
  static {
    registerErrorClass("StepOrderError", StepOrderError);
  }

  readonly _tag = "StepOrderError";

  constructor(method: string, expected: string) {
    super(`DcpAttention.${method}: ${expected}.`);
  }
}
