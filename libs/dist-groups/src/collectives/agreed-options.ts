import { ArgumentError } from "@lockstep/tensor";
import { type OptionDisagreement, OptionsDisagree } from "../errors/errors.ts";
import { isList, keysSafely, readSafely } from "../errors/printed-value.ts";

/** What an option can be. `undefined` is one that is not given. */
export type AgreedValue = string | number | bigint | boolean | null | undefined | readonly AgreedValue[];

/** Options by name. */
export type AgreedFields = Readonly<Record<string, AgreedValue>>;

/** Longest text of a rank. */
const MOST_BYTES = 16 * 1024;
const DEEPEST_LIST = 8;
/** Longest value that is printed whole. */
const LONGEST_VALUE = 120;
const NOT_GIVEN = "not given";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

type Entry = readonly [option: string, value: string];

interface Side {
  readonly what: string;
  readonly values: ReadonlyMap<string, string>;
}

/** The options as a text that is the same bytes exactly when they are the same options. */
export function agreedText(what: string, fields: AgreedFields): Uint8Array {
  if (typeof what !== "string" || what === "") {
    throw new ArgumentError("agree", "what", "a text that says what is opened", textOfType(what));
  }
  const options = typeof fields === "object" && fields !== null && !isList(fields) ? keysSafely(fields) : undefined;
  if (options === undefined) {
    throw new ArgumentError("agree", "fields", "an object of options", textOfType(fields));
  }
  const entries: Entry[] = [];
  let length = what.length;
  for (const option of options.toSorted()) {
    const value = readSafely(fields, option);
    if (value === undefined) continue;
    const text = textOf(`fields.${option}`, value, 0);
    length += option.length + text.length;
    if (length > MOST_BYTES) break;
    entries.push([option, text]);
  }
  const bytes = length > MOST_BYTES ? undefined : encoder.encode(JSON.stringify([what, entries]));
  if (bytes !== undefined && bytes.length <= MOST_BYTES) return bytes;
  throw new ArgumentError("agree", "fields", `at most ${MOST_BYTES} bytes of text`, "more", "Give a digest of it.");
}

function textOf(argument: string, value: unknown, depth: number): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, MOST_BYTES + 1));
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "boolean" || value === null || value === undefined) return String(value);
  if (isList(value) && value.length <= MOST_BYTES && depth < DEEPEST_LIST) {
    return `[${value.map((element: unknown) => textOf(argument, element, depth + 1)).join(", ")}]`;
  }
  throw new ArgumentError("agree", argument, "a text, number, boolean, null, or a list of these", textOfType(value));
}

function textOfType(value: unknown): string {
  if (isList(value)) return "a list that is too long or too deep";
  return value === null ? "null" : `of type ${typeof value}`;
}

/** Throws {@link OptionsDisagree} unless all texts are the same. `ranks` are global, in the order of the texts. */
export function throwUnlessAgreed(group: string, ranks: readonly number[], texts: readonly Uint8Array[]): void {
  const [first] = texts;
  if (first === undefined || texts.every((text) => isSame(text, first))) return;
  const sides = texts.map(parse);
  const what = disagreement(
    "what",
    sides.map((side) => JSON.stringify(side.what)),
    ranks,
  );
  const options = new Set(sides.flatMap(({ values }) => [...values.keys()]));
  const disagreements = [...options].toSorted().flatMap((option) => {
    const values = sides.map((side) => side.values.get(option) ?? NOT_GIVEN);
    return disagreement(option, values, ranks) ?? [];
  });
  // Ranks that open different things have different options, which says nothing.
  throw new OptionsDisagree(group, sides[0]?.what ?? "agree", what === undefined ? disagreements : [what]);
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

function parse(text: Uint8Array): Side {
  const [what, entries] = JSON.parse(decoder.decode(text)) as [string, Entry[]];
  return { what, values: new Map(entries) };
}

function disagreement(
  option: string,
  values: readonly string[],
  ranks: readonly number[],
): OptionDisagreement | undefined {
  const byValue = new Map<string, number[]>();
  for (const [place, value] of values.entries()) {
    const rank = ranks[place] ?? place;
    const same = byValue.get(value);
    if (same === undefined) byValue.set(value, [rank]);
    else same.push(rank);
  }
  if (byValue.size < 2) return undefined;
  const distinct = [...byValue.keys()];
  const from = firstDifference(distinct);
  return {
    option,
    sides: distinct.map((value) => ({ value: shortened(value, from), ranks: byValue.get(value) ?? [] })),
  };
}

/** The first character in which texts differ. */
function firstDifference([first = "", ...others]: readonly string[]): number {
  let at = 0;
  while (at < first.length && others.every((other) => other[at] === first[at])) at++;
  return at;
}

/** A long value from shortly before the place where it differs. */
function shortened(value: string, difference: number): string {
  if (value.length <= LONGEST_VALUE) return value;
  const start = Math.max(0, difference - 20);
  const end = start + LONGEST_VALUE;
  return `${start > 0 ? "..." : ""}${value.slice(start, end)}${end < value.length ? "..." : ""}`;
}
