import type { AttentionPlan } from "./partial-attention/attention-plan.ts";
import type { PlannedAttentionArgs } from "./partial-attention/index.ts";
import type { WriteKvCacheArgs } from "./write-kv-cache/index.ts";
import type { SlotPlan } from "./write-kv-cache/slot-plan.ts";

/**
 * Attention over operands that stay the same from step to step: checked once, and written down for the kernel. What
 * they hold may change between steps, sinks included; scales in lists are taken as they were at first. Gives the bits
 * that `partialAttention` gives. Freed by `free()`.
 */
export interface PreparedAttention extends Disposable {
  /**
   * Attends in a step of as many query tokens, over caches of the size it was prepared with.
   * @throws ArgumentError for another plan or sinks that are no numbers, UseAfterFree when an operand or the plan was
   *   freed, HeapExhausted, BackendClosed
   */
  attend(plan: AttentionPlan): void;
  /** Gives its memory back. Idempotent. */
  free(): void;
}

/** Storing rows that lie in the same place at every step: as {@link PreparedAttention}, of `writeKvCache`. */
export interface PreparedWrite extends Disposable {
  /**
   * Stores as many tokens at other slots.
   * @throws ArgumentError for slots of another number or cache size, UseAfterFree, BackendClosed
   */
  write(slots: SlotPlan): void;
  /** Gives its memory back. Idempotent. */
  free(): void;
}

/** Runs a step; again, without copies of other ops' operands, when there is no memory left. @throws BackendClosed */
export type WithRoom = (run: () => void) => void;

/** Ops that a backend can prepare: those of a decode step, whose checks cost about as much as their kernels. */
export interface PreparedOps {
  /**
   * Checks as `partialAttention` does, and computes nothing. Undefined where operands would have to be copied between
   * memories.
   * @throws ArgumentError, HeapExhausted
   */
  prepareAttention(args: PlannedAttentionArgs): PreparedAttention | undefined;
  /** The same of `writeKvCache`. */
  prepareWrite(args: WriteKvCacheArgs): PreparedWrite | undefined;
}
