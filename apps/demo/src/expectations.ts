import { ModelError } from "@lockstep/language-model";
import { isJsonObject, readJson } from "@lockstep/language-model/json-file";

/** A prompt and what greedy decoding must make of it. */
export interface Expectation {
  readonly prompt: string;
  readonly promptIds: readonly number[];
  readonly greedyIds: readonly number[];
}

/**
 * Reads a JSON list of `{ prompt, prompt_ids, greedy_ids }`.
 * Throws {@link ModelError} when it is something else, or has ids beyond a vocabulary of `vocabularySize` tokens.
 */
export function readExpectations(path: string, vocabularySize: number): Expectation[] {
  const json = readJson(path);
  if (!Array.isArray(json) || json.length === 0) throw new ModelError(path, "a list of entries", "none");
  return json.map((entry: unknown, index) => {
    if (
      !isJsonObject(entry) ||
      typeof entry.prompt !== "string" ||
      !isIdList(entry.prompt_ids, vocabularySize) ||
      !isIdList(entry.greedy_ids, vocabularySize)
    ) {
      const expected = `prompt, prompt_ids and greedy_ids (ids from 0 to ${vocabularySize - 1}) in entry ${index + 1}`;
      throw new ModelError(path, expected, "something else");
    }
    return { prompt: entry.prompt, promptIds: entry.prompt_ids, greedyIds: entry.greedy_ids };
  });
}

function isIdList(value: unknown, vocabularySize: number): value is number[] {
  const isId = (id: unknown): boolean => Number.isInteger(id) && Number(id) >= 0 && Number(id) < vocabularySize;
  return Array.isArray(value) && value.length > 0 && value.every(isId);
}

/** Where two lists of ids part, in words; undefined when they are equal. */
export function firstDifference(
  what: string,
  expected: readonly number[],
  found: readonly number[],
): string | undefined {
  for (let index = 0; index < Math.max(expected.length, found.length); index++) {
    if (expected[index] !== found[index]) {
      return `: ${what} ${index + 1} is ${found[index] ?? "missing"}, expected ${expected[index] ?? "none"}`;
    }
  }
  return undefined;
}
