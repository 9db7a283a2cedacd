import { readErrorRecord, writeErrorRecord } from "../../errors/error-record.ts";
import { fromPlainError } from "../../errors/plain-error.ts";
import type { ControlBlockLayout } from "./control-block.ts";

/** True once somebody aborted the group. */
export function isAborted(words: Int32Array, layout: ControlBlockLayout): boolean {
  return Atomics.load(words, layout.abortWord) !== 0;
}

/**
 * Aborts a group for ever with a cause that every rank can read. The first to abort wins; `writer` is a rank of the
 * group, or its size for the host. Wakes every parked rank.
 */
export function abortGroup(words: Int32Array, layout: ControlBlockLayout, writer: number, cause: Error): void {
  const record = layout.abortRecord(writer);
  const neverWritten = words[record] === 0;
  if (!isAborted(words, layout) && neverWritten) {
    writeErrorRecord(words, record, cause);
    Atomics.compareExchange(words, layout.abortWord, 0, 1 + writer);
  }
  for (let rank = 0; rank < layout.size; rank++) Atomics.notify(words, layout.progressWord(rank));
}

/** Why the group was aborted. Only when {@link isAborted}. */
export function abortCause(words: Int32Array, layout: ControlBlockLayout): Error {
  const writer = Atomics.load(words, layout.abortWord) - 1;
  return fromPlainError(readErrorRecord(words, layout.abortRecord(writer)));
}
