import { LockstepError, registerErrorClass } from "@lockstep/tensor";

/**
 * Another rank's op failed before a fence of a shared device. What this rank called after the fence was not run, since
 * it may rest on the other's results.
 */
export class FenceFailed extends LockstepError {
  static {
    registerErrorClass("FenceFailed", FenceFailed);
  }

  readonly _tag = "FenceFailed";
  /** Whose op failed, within the ranks that share the device. */
  readonly rank: number;
  /** In words. */
  readonly reason: string;

  constructor(rank: number, reason: string) {
    super(
      `an op of rank ${rank} failed before a fence of the shared device: ${reason} ` +
        "What this rank called after the fence was not run. Mend the op on that rank, and repeat the step on all.",
    );
    this.rank = rank;
    this.reason = reason;
  }
}

/** The ranks that share a device came to an op with different numbers of fences before it. None of their ops was run. */
export class FencesDiffer extends LockstepError {
  static {
    registerErrorClass("FencesDiffer", FencesDiffer);
  }

  readonly _tag = "FencesDiffer";
  /** Of each rank, since their last common op. */
  readonly fences: readonly number[];

  constructor(fences: readonly number[]) {
    super(
      `the ranks that share a device made [${fences}] fences before this op. ` +
        "Every rank must make the same calls of `fence` and ops with heap results in the same order. Nothing was run.",
    );
    this.fences = fences;
  }
}

/** Ranks that share a device called what does not go together. None of it was completed. */
export class CallsDiffer extends LockstepError {
  static {
    registerErrorClass("CallsDiffer", CallsDiffer);
  }

  readonly _tag = "CallsDiffer";
  /** What each rank called, in words. */
  readonly calls: readonly string[];

  constructor(calls: readonly string[]) {
    super(
      `the ranks that share a device called what does not go together: ${calls
        .map((call, rank) => `rank ${rank} ${call}`)
        .join(", ")}. ` +
        "Every rank must make the same calls of `show` and of ops with heap results in the same order. " +
        "None of these calls was completed: repeat them on all ranks.",
    );
    this.calls = calls;
  }
}
