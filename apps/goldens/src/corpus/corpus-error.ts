import { LockstepError, registerErrorClass } from "@lockstep/tensor";

/** A corpus that is damaged or not one: a file is missing or has other bytes, an op or a tensor is unknown. */
export class CorpusError extends LockstepError {
  static {
    registerErrorClass("CorpusError", CorpusError);
  }

  readonly _tag = "CorpusError";

  constructor(path: string, problem: string) {
    super(`${path}: ${problem}. corpus/README.md of the repository specifies the format.`);
  }
}
