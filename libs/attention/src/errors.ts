import { LockstepError, registerErrorClass } from "@lockstep/tensor";

/** A step needs more KV blocks than are free. Nothing was reserved or written; what is stored stays readable. */
export class OutOfBlocks extends LockstepError {
  static {
    registerErrorClass("OutOfBlocks", OutOfBlocks);
  }

  readonly _tag = "OutOfBlocks";
  /** Blocks that the step needs beyond those that its sequences hold. */
  readonly needed: number;
  /** Blocks that are free. */
  readonly free: number;
  /** Blocks of the cache. */
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

/**
 * A step brought a key or value that is NaN or infinite, for a KV cache in int8, which can hold neither. `write`,
 * `forward` and `prefill` throw it before the layer stores anything, on every rank that was given the value. `endStep`
 * throws it again and cancels the step: its tokens are forgotten, and nothing stored before is lost.
 */
export class NonFiniteKeyValue extends LockstepError {
  static {
    registerErrorClass("NonFiniteKeyValue", NonFiniteKeyValue);
  }

  readonly _tag = "NonFiniteKeyValue";
  /** The layer, from 0. */
  readonly layer: number;
  /** "key" or "value". */
  readonly tensor: string;
  /** Place among the step's new tokens; in a prefill that ranks share, among those of the rank that brought it. */
  readonly token: number;
  /** The KV head. */
  readonly head: number;

  constructor(layer: number, tensor: string, token: number, head: number, value: number) {
    super(
      `the ${tensor} of new token ${token}, layer ${layer}, KV head ${head}, holds ${value}, ` +
        "which an int8 cache cannot store. " +
        "Look for damaged weights or an overflow; a cache in another dtype shows it as NaN.",
    );
    this.layer = layer;
    this.tensor = tensor;
    this.token = token;
    this.head = head;
  }
}
