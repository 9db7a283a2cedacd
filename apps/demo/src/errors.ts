import { LockstepError, registerErrorClass } from "@lockstep/tensor";

/** The command line asked for something that cannot be: exit code 2 and this one line. */
export class UsageError extends LockstepError {
  static {
    registerErrorClass("UsageError", UsageError);
  }

  readonly _tag = "UsageError";
}
