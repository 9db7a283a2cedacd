import { LockstepError, registerErrorClass } from "@lockstep/tensor";

/** The command line asked for something that cannot be: exit code 2 and this one line. */
export class UsageError extends LockstepError {
  static {
    registerErrorClass("UsageError", UsageError);
  }

  readonly _tag = "UsageError";
}

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
