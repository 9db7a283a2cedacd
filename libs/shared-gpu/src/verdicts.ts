import { fromPlainError, type PlainError, type ProcessGroup, toPlainError } from "@lockstep/dist-groups";
import type { SharedHeap, Tensor } from "@lockstep/tensor";
import { meet, newMessage, textOf, writePurpose } from "./meeting.ts";

/** What went wrong in each rank's part of a collective op; nothing in nearly all of them. */
export type Verdicts = ReadonlyMap<number, unknown>;

/**
 * The second half of a collective op on the rank that ran it: tells the others what came of their parts.
 * @param empty a message of no contents, which is written to
 */
export function tellVerdicts(
  group: ProcessGroup,
  heap: SharedHeap,
  verdicts: Verdicts,
  empty: Tensor,
  deadlineMs?: number,
): void {
  if (verdicts.size === 0) {
    writePurpose(empty, "verdicts");
    meet(group, "verdicts", empty, () => undefined, deadlineMs);
    return;
  }
  const plain = [...verdicts].map(([rank, error]): [number, PlainError] => [rank, toPlainError(error)]);
  const told = newMessage(heap, "verdicts", JSON.stringify(plain));
  try {
    meet(group, "verdicts", told, () => undefined, deadlineMs);
  } finally {
    told.free();
  }
}

/**
 * The same on the others: waits until the op has completed, and throws what went wrong in this rank's part.
 * @param empty a message of no contents, which is written to
 */
export function awaitVerdict(group: ProcessGroup, empty: Tensor, deadlineMs?: number): void {
  writePurpose(empty, "verdicts");
  const text = meet(group, "verdicts", empty, ([owner]) => textOf(owner), deadlineMs);
  if (text === "") return;
  const own = (JSON.parse(text) as [number, PlainError][]).find(([rank]) => rank === group.rank);
  if (own !== undefined) throw fromPlainError(own[1]);
}
