import { ArgumentError, describe } from "@lockstep/tensor";

/** Throws ArgumentError unless all ids are integers from 0 to `vocabularySize` - 1. */
export function checkTokenIds(
  operation: string,
  argument: string,
  ids: readonly number[],
  vocabularySize: number,
): void {
  if (!isList(ids)) throw new ArgumentError(operation, argument, "a list of token ids", describe(ids));
  // By its index: an id may itself be undefined.
  const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
  if (wrong === -1) return;
  throw new ArgumentError(operation, argument, `from 0 to ${vocabularySize - 1}`, describe(ids[wrong]));
}

/** True for arrays and typed arrays. */
function isList(ids: unknown): boolean {
  return Array.isArray(ids) || (ArrayBuffer.isView(ids) && !(ids instanceof DataView));
}
