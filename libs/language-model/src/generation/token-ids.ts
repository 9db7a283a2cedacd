import { ArgumentError } from "@lockstep/tensor";

/** Throws ArgumentError unless all ids are integers from 0 to `vocabularySize` - 1. */
export function checkTokenIds(
  operation: string,
  argument: string,
  ids: readonly number[],
  vocabularySize: number,
): void {
  const unknown = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
  if (unknown === undefined) return;
  throw new ArgumentError(operation, argument, `from 0 to ${vocabularySize - 1}`, String(unknown));
}
