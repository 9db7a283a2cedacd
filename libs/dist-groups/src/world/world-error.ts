import type { ArgumentError, HeapExhausted, ResourceClosed } from "@lockstep/tensor";
import type {
  CallInterrupted,
  CallTimeout,
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  OptionsDisagree,
  RankCrashed,
  ReentrantCollective,
  RemoteError,
  WorldClosed,
  WorldStartFailed,
} from "../errors/errors.ts";

/**
 * What opening and calling a world can fail with. Typed errors that a program's methods throw come as their own class
 * when it is defined on this thread too, also when that happens later; else as `RemoteError` with the original's tag.
 */
export type WorldError =
  | ArgumentError
  | HeapExhausted
  | CallInterrupted
  | CallTimeout
  | CollectiveMismatch
  | CollectiveTimeout
  | GroupAborted
  | OptionsDisagree
  | RankCrashed
  | ReentrantCollective
  | RemoteError
  | ResourceClosed
  | WorldClosed
  | WorldStartFailed;
