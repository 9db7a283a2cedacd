import { LockstepError, registerErrorClass } from "@lockstep/tensor";

/** A model folder cannot be used: a file is missing or malformed, or the architecture is not supported. */
export class ModelError extends LockstepError {
  static {
    registerErrorClass("ModelError", ModelError);
  }

  readonly _tag = "ModelError";

  constructor(file: string, expected: string, received: string) {
    super(`${file}: expected ${expected}, but found ${received}.`);
  }
}

/**
 * A model cannot be run with these options: they do not fit it, one another, or the memory there is. Nothing was
 * opened.
 */
export class UnfitOptions extends LockstepError {
  static {
    registerErrorClass("UnfitOptions", UnfitOptions);
  }

  readonly _tag = "UnfitOptions";
  /** What does not fit, and what to do. Names of options stand between backticks: `world`. */
  readonly problem: string;

  constructor(problem: string, operation = "Generator.open") {
    super(`${operation}: ${problem}`);
    this.problem = problem;
  }
}

/** The model gave no logits to choose a token by: one is NaN or infinite. */
export class LogitsNotFinite extends LockstepError {
  static {
    registerErrorClass("LogitsNotFinite", LogitsNotFinite);
  }

  readonly _tag = "LogitsNotFinite";

  constructor() {
    super(
      "the model's logits are not finite: one is NaN or infinite. Its weights or KV cache are damaged: " +
        "open the model again, from a folder whose files are whole.",
    );
  }
}

/** Too many requests wait already. Try again later. */
export class EngineBusy extends LockstepError {
  static {
    registerErrorClass("EngineBusy", EngineBusy);
  }

  readonly _tag = "EngineBusy";
  /** When to try again: how long a place in the queue takes to become free, by what requests took of late. */
  readonly retryAfterMs: number;

  constructor(most: number, retryAfterMs: number) {
    const seconds = Math.max(1, Math.ceil(retryAfterMs / 1000));
    super(`Engine.generate: there are ${most} requests already, the most that may be: try again in ${seconds} s.`);
    this.retryAfterMs = retryAfterMs;
  }
}

/** Ranks failed, and what they were computing is lost. The engine opens them again and serves what comes next. */
export class RanksFailed extends LockstepError {
  static {
    registerErrorClass("RanksFailed", RanksFailed);
  }

  readonly _tag = "RanksFailed";
  /** Global ranks that failed; empty when it is not known which. */
  readonly failedRanks: readonly number[];

  constructor(failedRanks: readonly number[], cause: Error) {
    const who = failedRanks.length === 0 ? "a rank" : `rank ${failedRanks.join(", ")}`;
    super(`${who} failed while the text was computed: ${cause.message} Ask again.`, { cause });
    this.failedRanks = failedRanks;
  }
}

/** A live context did not come to other ranks. Those that had it go on with it, and nothing of it is lost. */
export class MoveFailed extends LockstepError {
  static {
    registerErrorClass("MoveFailed", MoveFailed);
  }

  readonly _tag = "MoveFailed";

  constructor(problem: string, cause?: Error) {
    super(`the context did not move to other ranks: ${problem}. The ranks that had it go on.`, { cause });
  }
}

/**
 * Why saved prefixes were refused or not saved:
 * - "missing": files of some ranks are there, others are not
 * - "damaged": a file is cut, or holds other bytes than were written
 * - "checkpoint": they were computed with other weights, or otherwise
 * - "layout": they were stored by another world, or in another form
 * - "mixed": the ranks' files do not belong to one save
 * - "unreadable", "unwritable": the file system said so
 * - "peer": another rank refused or failed
 * - "unsupported": this runtime has no files
 */
export type PrefixStoreReason =
  | "missing"
  | "damaged"
  | "checkpoint"
  | "layout"
  | "mixed"
  | "unreadable"
  | "unwritable"
  | "peer"
  | "unsupported";

/** Saved prefixes cannot be loaded or written. Nothing was loaded, on any rank; what was known before still is. */
export class PrefixStoreError extends LockstepError {
  static {
    registerErrorClass("PrefixStoreError", PrefixStoreError);
  }

  readonly _tag = "PrefixStoreError";
  /** What kind of problem it is. */
  readonly reason: PrefixStoreReason;

  constructor(reason: PrefixStoreReason, file: string, expected: string, received: string) {
    const again = reason === "unwritable" || reason === "unsupported" ? "" : " Remove the saved files, or save again.";
    super(`${file}: expected ${expected}, but found ${received}.${again}`);
    this.reason = reason;
  }
}

/** A conversation that a model's chat template refuses, or for which it fails. */
export class ChatTemplateError extends LockstepError {
  static {
    registerErrorClass("ChatTemplateError", ChatTemplateError);
  }

  readonly _tag = "ChatTemplateError";

  constructor(problem: string) {
    super(`the chat template: ${problem}`);
  }
}
