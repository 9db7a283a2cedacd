// Values as data that both structured cloning and JSON keep, and that is never larger than a bound: numbers that JSON
// does not know, lists, objects, and errors within them.

import { isInstance, readSafely, shortened } from "./printed-value.ts";

/** A value as data. What is not data, such as a function, has no such form. */
export type PlainValue<E> =
  | string
  | number
  | boolean
  | null
  | readonly PlainValue<E>[]
  | { readonly object: Readonly<Record<string, PlainValue<E>>> }
  | { readonly error: E }
  | { readonly bigint: string }
  | { readonly special: "undefined" | "NaN" | "Infinity" | "-Infinity" | "-0" };

/** How much of a value is left to take. What goes beyond is left out. */
export interface Budget {
  nodes: number;
  characters: number;
}

const DEEPEST = 16;

/** A value as data, with errors in it as `takeError` gives them; undefined when it is not data, or too much. */
export function toPlainValue<E>(
  value: unknown,
  budget: Budget,
  takeError: (error: Error, depth: number) => E | undefined,
  depth = 0,
): PlainValue<E> | undefined {
  if (--budget.nodes < 0 || depth > DEEPEST) return undefined;
  switch (typeof value) {
    case "string": {
      const text = shortened(value, Math.max(0, budget.characters));
      budget.characters -= text.length;
      return text;
    }
    case "number":
      if (Object.is(value, -0)) return { special: "-0" };
      return Number.isFinite(value) ? value : { special: String(value) as "NaN" | "Infinity" | "-Infinity" };
    case "boolean":
      return value;
    case "undefined":
      return { special: "undefined" };
    case "bigint": {
      const digits = value.toString();
      budget.characters -= digits.length;
      return budget.characters < 0 ? undefined : { bigint: digits };
    }
    case "object":
      break;
    default:
      return undefined;
  }
  if (value === null) return null;
  if (isInstance(value, Error)) {
    const error = takeError(value, depth + 1);
    return error === undefined ? undefined : { error };
  }
  const take = (element: unknown): PlainValue<E> | undefined => toPlainValue(element, budget, takeError, depth + 1);
  try {
    return Array.isArray(value) ? plainList(value, take) : plainObject(value, budget, take);
  } catch {
    return undefined;
  }
}

function plainList<E>(
  list: readonly unknown[],
  take: (element: unknown) => PlainValue<E> | undefined,
): PlainValue<E>[] | undefined {
  const plain: PlainValue<E>[] = [];
  for (let at = 0; at < list.length; at++) {
    const element = take(list[at]);
    if (element === undefined) return undefined;
    plain.push(element);
  }
  return plain;
}

function plainObject<E>(
  value: object,
  budget: Budget,
  take: (element: unknown) => PlainValue<E> | undefined,
): PlainValue<E> | undefined {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return undefined;
  const entries: [string, PlainValue<E>][] = [];
  for (const key of Object.keys(value)) {
    budget.characters -= key.length;
    const element = take(readSafely(value, key));
    if (element === undefined || budget.characters < 0) return undefined;
    entries.push([key, element]);
  }
  return { object: Object.fromEntries(entries) };
}

/** The value that {@link toPlainValue} took apart. */
export function fromPlainValue<E>(plain: PlainValue<E>, makeError: (error: E) => Error): unknown {
  if (typeof plain !== "object" || plain === null) return plain;
  if (isList(plain)) return plain.map((element) => fromPlainValue(element, makeError));
  if ("error" in plain) return makeError(plain.error);
  if ("bigint" in plain) return BigInt(plain.bigint);
  if ("special" in plain) return plain.special === "undefined" ? undefined : Number(plain.special);
  return Object.fromEntries(
    Object.entries(plain.object).map(([key, element]) => [key, fromPlainValue(element, makeError)]),
  );
}

function isList<E>(plain: PlainValue<E>): plain is readonly PlainValue<E>[] {
  return Array.isArray(plain);
}
