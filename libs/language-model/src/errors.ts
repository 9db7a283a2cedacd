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

  constructor(problem: string) {
    super(`Generator.open: ${problem}`);
    this.problem = problem;
  }
}
