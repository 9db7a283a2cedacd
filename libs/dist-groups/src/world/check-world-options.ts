// Every option of a world is checked before anything is opened. Each check names the option and what came.

import { ArgumentError, describe } from "@lockstep/tensor";
import { isList, keysSafely, readSafely } from "../errors/printed-value.ts";
import { checkSignal } from "./follow-signal.ts";

const OPERATION = "openWorld";
/** Most ranks of a world. */
export const MOST_RANKS = 255;
/** The longest delay that setTimeout takes. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const LONGEST_NAME = 200;

const NAMES = [
  "size",
  "program",
  "worker",
  "options",
  "heapBytesPerRank",
  "heapBytesHost",
  "groups",
  "deadlineMs",
  "startDeadlineMs",
  "closeDeadlineMs",
  "signal",
  "stagingBytes",
  "stagedLimit",
  "initialProgress",
];

/**
 * Throws unless the options are known ones of the right kinds. How they fit together is checked where they are used.
 */
export function checkWorldOptions(options: object): void {
  checkKeys(OPERATION, "options", options, NAMES);
  const given = options as Readonly<Record<string, unknown>>;
  for (const name of NAMES) {
    if (name === "options" || given[name] !== null) continue;
    throw new ArgumentError(OPERATION, name, "a value, or undefined for the default", "null");
  }
  const { size, groups, initialProgress } = given;
  if (!Number.isInteger(size) || Number(size) < 1 || Number(size) > MOST_RANKS) {
    throw new ArgumentError(OPERATION, "size", `an integer from 1 to ${MOST_RANKS}`, describe(size));
  }
  checkRankCode(given.program, given.worker);
  for (const name of ["deadlineMs", "startDeadlineMs", "closeDeadlineMs"]) {
    if (given[name] !== undefined) checkMilliseconds(OPERATION, name, given[name]);
  }
  checkSignal(OPERATION, given.signal);
  if (groups !== undefined) checkPartitions(groups, Number(size));
  const isWord = Number.isInteger(initialProgress) && (Number(initialProgress) | 0) === initialProgress;
  if (initialProgress !== undefined && !isWord) {
    throw new ArgumentError(OPERATION, "initialProgress", "an integer of 32 bits", describe(initialProgress));
  }
  if (typeof given.options !== "function") checkCopyable(given.options);
}

/** Throws unless the ranks' code is given in one way. */
function checkRankCode(program: unknown, worker: unknown): void {
  if (worker === undefined && program === undefined) {
    throw new ArgumentError(
      OPERATION,
      "program, worker",
      "one of the two",
      "neither",
      "One of them says what ranks run.",
    );
  }
  if (worker === undefined) {
    if (isAddress(program)) return;
    throw new ArgumentError(
      OPERATION,
      "program",
      "an absolute URL, as new URL(path, import.meta.url)",
      describe(program),
    );
  }
  if (program !== undefined) {
    const advice = "The module of a worker of your own has the program.";
    throw new ArgumentError(OPERATION, "program, worker", "one of the two", "both", advice);
  }
  if (typeof worker === "function" || isAddress(worker)) return;
  const expected =
    "the absolute URL of a module that calls runRank, as new URL(path, import.meta.url), or a function that returns " +
    "a Worker";
  throw new ArgumentError(OPERATION, "worker", expected, describe(worker));
}

/** Whether it is an absolute URL, or a path from the root: others would be relative to a module of this library. */
function isAddress(value: unknown): boolean {
  const href = typeof value === "object" && value !== null ? readSafely(value, "href") : value;
  return typeof href === "string" && (/^\/[^/]/.test(href) || URL.canParse(href));
}

/** Throws unless `options` is an object with none but these keys. */
export function checkKeys(operation: string, argument: string, options: unknown, names: readonly string[]): void {
  const keys = typeof options === "object" && options !== null && !isList(options) ? keysSafely(options) : undefined;
  if (keys === undefined) {
    throw new ArgumentError(operation, argument, "an object", describe(options));
  }
  for (const key of keys) {
    if (names.includes(key)) continue;
    throw new ArgumentError(operation, argument, `an object with ${names.join(", ")}`, `one with ${describe(key)}`);
  }
}

/** Throws unless a value is a delay that timers take, in milliseconds. */
export function checkMilliseconds(operation: string, argument: string, value: unknown): void {
  if (typeof value === "number" && value > 0 && value <= LONGEST_TIMER_MS) return;
  throw new ArgumentError(operation, argument, `milliseconds, more than 0, to ${LONGEST_TIMER_MS}`, describe(value));
}

/** Throws unless `name` can be a group's. */
export function checkGroupName(operation: string, name: unknown): void {
  if (typeof name === "string" && name.length > 0 && name.length <= LONGEST_NAME) return;
  throw new ArgumentError(operation, "name", `a text of 1 to ${LONGEST_NAME} characters`, describe(name));
}

/** Throws unless `ranks` are distinct ranks of a world of `size`. */
export function checkRanks(operation: string, argument: string, ranks: unknown, size: number): void {
  const expected = `a list of distinct ranks from 0 to ${size - 1}`;
  if (!isList(ranks)) throw new ArgumentError(operation, argument, expected, describe(ranks));
  const isRank = (rank: unknown): boolean => Number.isInteger(rank) && Number(rank) >= 0 && Number(rank) < size;
  // Holes are not looked at by `every`: a list with one is no longer than its distinct ranks.
  if (ranks.length > 0 && ranks.length <= size && ranks.every(isRank) && new Set(ranks).size === ranks.length) return;
  const shown = ranks.slice(0, 16).map(describe).join(", ");
  throw new ArgumentError(operation, argument, expected, `[${shown}${ranks.length > 16 ? ", ..." : ""}]`);
}

/** Throws unless every partition's groups are disjoint groups of ranks. */
function checkPartitions(groups: unknown, size: number): void {
  const names = typeof groups === "object" && groups !== null && !isList(groups) ? keysSafely(groups) : undefined;
  if (names === undefined) {
    throw new ArgumentError(OPERATION, "groups", "an object of named partitions", describe(groups));
  }
  for (const name of names) {
    const partition = readSafely(groups as object, name);
    if (name === "world") {
      throw new ArgumentError(OPERATION, "groups", "a partition with another name", '"world"', "It always exists.");
    }
    checkGroupName(OPERATION, name);
    if (!isList(partition)) {
      throw new ArgumentError(OPERATION, `groups.${name}`, "a list of lists of ranks", describe(partition));
    }
    const seen = new Set<unknown>();
    // By index, so that holes are seen. Each group has a rank of its own, so there are no more than ranks.
    for (let at = 0; at < partition.length; at++) {
      const ranks: unknown = partition[at];
      checkRanks(OPERATION, `groups.${name}`, ranks, size);
      for (const rank of ranks as number[]) {
        if (seen.has(rank)) {
          throw new ArgumentError(OPERATION, `groups.${name}`, "disjoint groups", `with rank ${rank} in two`);
        }
        seen.add(rank);
      }
    }
  }
}

/** Throws unless ranks can be given these options. */
export function checkCopyable(options: unknown): void {
  try {
    structuredClone(options);
  } catch {
    throw new ArgumentError(OPERATION, "options", "data that structured cloning can copy", describe(options));
  }
}
