import { ArgumentError, describe } from "@lockstep/tensor";

/** Ids have no other bits than these. */
const BITS = 2 ** 31 - 1;

/**
 * Throws ArgumentError unless `ids` is a list of token ids: integers from 0 to 2^31 - 1.
 * @param from the first one that is looked at
 */
export function expectTokens(operation: string, ids: readonly number[], from = 0): void {
  if (!Array.isArray(ids)) throw new ArgumentError(operation, "ids", "a list of token ids", describe(ids));
  for (let at = from; at < ids.length; at++) {
    const id: unknown = ids[at];
    if (typeof id === "number" && (id & BITS) === id) continue;
    throw new ArgumentError(operation, `ids[${at}]`, `an integer from 0 to ${BITS}`, describe(id));
  }
}
