// Token ids as strings: two texts have the same key only if they have the same tokens.
import { ArgumentError, describe } from "@lockstep/tensor";

/** Ids are below this. */
const MOST = 2 ** 31;
/** Characters that are joined in one call: engines limit the arguments of one. */
const CHUNK = 4096;

/**
 * Throws ArgumentError unless `ids` is a list of token ids: integers from 0 to 2^31 - 1.
 * @param from the first one that is looked at
 */
export function expectTokens(operation: string, ids: readonly number[], from = 0): void {
  if (!Array.isArray(ids)) throw new ArgumentError(operation, "ids", "a list of token ids", describe(ids));
  for (let at = from; at < ids.length; at++) {
    const id: unknown = ids[at];
    if (typeof id === "number" && Number.isInteger(id) && id >= 0 && id < MOST) continue;
    throw new ArgumentError(operation, `ids[${at}]`, `an integer from 0 to ${MOST - 1}`, describe(id));
  }
}

/** The tokens ids[from], ids[from + 1], ... as a string of two characters each: the upper and the lower 16 bits. */
export function tokenKey(ids: readonly number[], from: number, count: number): string {
  const units = new Uint16Array(2 * count);
  for (let at = 0; at < count; at++) {
    const id = ids[from + at] ?? 0;
    units[2 * at] = id >>> 16;
    units[2 * at + 1] = id & 0xffff;
  }
  let key = "";
  for (let at = 0; at < units.length; at += CHUNK) key += String.fromCharCode(...units.subarray(at, at + CHUNK));
  return key;
}

/** The tokens of a {@link tokenKey}. */
export function tokensOfKey(key: string): number[] {
  const count = key.length / 2;
  return Array.from({ length: count }, (_, at) => key.charCodeAt(2 * at) * 2 ** 16 + key.charCodeAt(2 * at + 1));
}
