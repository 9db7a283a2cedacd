import { LockstepError, registerErrorClass } from "@lockstep/tensor";
import { asSentence } from "./errors.ts";

/** No MPI library could be loaded. */
export class MpiNotFound extends LockstepError {
  static {
    registerErrorClass("MpiNotFound", MpiNotFound);
  }

  readonly _tag = "MpiNotFound";
  /** The libraries that were tried, each with what the system's loader said. */
  readonly tried: readonly string[];

  constructor(tried: readonly string[]) {
    super(
      `no MPI library could be loaded. Tried: ${asSentence(tried.join("; "))} ` +
        "Install one (Debian and Ubuntu: `apt-get install openmpi-bin libopenmpi-dev`, or `mpich libmpich-dev`), " +
        "or name it in the environment: LOCKSTEP_MPI_LIBRARY=/path/to/libmpi.so.",
    );
    this.tried = tried;
  }
}

/** MPI is there, but worlds cannot run on it as it is. */
export class MpiUnsuitable extends LockstepError {
  static {
    registerErrorClass("MpiUnsuitable", MpiUnsuitable);
  }

  readonly _tag = "MpiUnsuitable";
  /** What is wrong, and what to do, in words. */
  readonly reason: string;

  constructor(reason: string, cause?: unknown) {
    super(`MPI cannot be used: ${asSentence(reason)}`, cause === undefined ? undefined : { cause });
    this.reason = reason;
  }
}

/** A function of MPI returned an error. */
export class MpiFailed extends LockstepError {
  static {
    registerErrorClass("MpiFailed", MpiFailed);
  }

  readonly _tag = "MpiFailed";
  /** The function, such as `MPI_Isend`. */
  readonly operation: string;
  /** What it returned; the numbers differ between MPI libraries. */
  readonly code: number;
  /** What MPI says about the code. */
  readonly reason: string;

  constructor(operation: string, code: number, reason: string) {
    super(`${operation} failed with code ${code}: ${asSentence(reason)}`);
    this.operation = operation;
    this.code = code;
    this.reason = reason;
  }
}
