import type { AbortSignalLike, ProcessGroup } from "@lockstep/dist-groups";
import { ArgumentError, describe } from "@lockstep/tensor";
import { expectGroup, expectRecord } from "../arguments/expect-argument.ts";
import type { DcpAttentionOptions } from "../options/dcp-attention-options.ts";

/** How a context moves: options of {@link DcpAttention.redistribute}, but for where it is. */
export interface MoveOptions {
  /** All ranks of the old layout and of the new one, each once, in any order. */
  readonly group: ProcessGroup;
  /** What the new attention is opened with. Left out on a rank that has no part of the new layout. */
  readonly to?: DcpAttentionOptions;
  /**
   * Most bytes of the heap that rows take on their way, the same on every rank. Less takes more rounds. Default
   * {@link DEFAULT_WORKSPACE_BYTES}.
   */
  readonly workspaceBytes?: number;
  /** Fires when the context is to stay where it is: looked at in every round, on any rank. */
  readonly signal?: AbortSignalLike;
  /** Deadline of each exchange. Default: the group's. */
  readonly deadlineMs?: number;
}

/** Bytes of the heap that rows take on their way unless it is said otherwise. */
export const DEFAULT_WORKSPACE_BYTES: number = 1 << 20;

/** @throws ArgumentError unless these can be options of a move */
export function checkMoveOptions(options: MoveOptions): void {
  const name = "DcpAttention.redistribute";
  expectRecord(name, "options", options);
  const { group, to, workspaceBytes, signal, deadlineMs } = options;
  expectGroup(name, "group", group);
  if (to !== undefined) expectRecord(name, "to", to);
  const isMost = (given: number | undefined): boolean =>
    given === undefined || (Number.isInteger(given) && given > 0 && given < 2 ** 31);
  if (!isMost(workspaceBytes)) {
    throw new ArgumentError(name, "workspaceBytes", "bytes, from 1 to 2^31 - 1", describe(workspaceBytes));
  }
  if (!isMost(deadlineMs)) throw new ArgumentError(name, "deadlineMs", "milliseconds, 1 or more", describe(deadlineMs));
  if (signal === undefined || (typeof signal === "object" && signal !== null && typeof signal.aborted === "boolean"))
    return;
  throw new ArgumentError(name, "signal", "an AbortSignal", describe(signal));
}
