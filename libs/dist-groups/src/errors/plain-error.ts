import { becomeWhenRegistered, errorClassOf, LockstepError } from "@lockstep/tensor";
import { RemoteError } from "./errors.ts";
import { type Budget, fromPlainValue, type PlainValue, toPlainValue } from "./plain-value.ts";
import { isInstance, printedValue, readSafely, shortened } from "./printed-value.ts";

/**
 * An error as plain data, bounded in size. Structured cloning and JSON both lose an error's class and fields, so errors
 * cross worker boundaries and the shared memory in this form.
 */
export interface PlainError {
  /** As of the error. */
  readonly name: string;
  /** As of the error. */
  readonly message: string;
  /** As of the error. */
  readonly stack?: string | undefined;
  /** Of a typed error: its `_tag`, which says which class it is. */
  readonly tag?: string | undefined;
  /** Of any other: the built-in class that it is or extends. */
  readonly builtIn?: string | undefined;
  /** Own fields that are data, or errors. */
  readonly fields?: Readonly<Record<string, PlainValue<PlainError>>> | undefined;
  /** The same, of those that errors do not show: `cause`, and what an AggregateError or a SuppressedError holds. */
  readonly hidden?: Readonly<Record<string, PlainValue<PlainError>>> | undefined;
}

/** Those that are rebuilt as themselves, the most special first. */
const BUILT_INS = [
  "AggregateError",
  "SuppressedError",
  "TypeError",
  "RangeError",
  "SyntaxError",
  "ReferenceError",
  "EvalError",
  "URIError",
  "DOMException",
];
const HIDDEN = new Set(["cause", "errors", "error", "suppressed"]);
/** Bun puts line, column and sourceURL on errors as own fields; Deno has more in DOMException. */
const NOT_FIELDS = new Set([
  "stack",
  "message",
  "name",
  "line",
  "column",
  "sourceURL",
  "originalLine",
  "originalColumn",
]);
const LONGEST_TEXT = 16 * 1024;
/** Errors of an AggregateError. */
const MOST_ERRORS = 256;
/** Deepest chain of causes. */
const DEEPEST_ERROR = 16;

/** Any thrown value as plain data. Never throws. */
export function toPlainError(thrown: unknown): PlainError {
  const budget: Budget = { nodes: 10_000, characters: 256 * 1024 };
  if (!isInstance(thrown, Error)) {
    const message = `a value that is not an Error: ${printedValue(thrown)}`;
    return { name: "Error", message };
  }
  return plainOf(thrown, budget, [], 0);
}

/** `within`: the errors whose causes or fields this one is among. */
function plainOf(error: Error, budget: Budget, within: readonly Error[], depth: number): PlainError {
  const path = [...within, error];
  const take = (value: unknown): PlainValue<PlainError> | undefined =>
    toPlainValue(value, budget, (inner, below) => {
      if (path.includes(inner) || depth + below > DEEPEST_ERROR) return undefined;
      return plainOf(inner, budget, path, depth + below);
    });
  const tag = isInstance(error, LockstepError) ? readSafely(error, "_tag") : undefined;
  const stack = readSafely(error, "stack");
  return {
    name: textOf(readSafely(error, "name"), "Error"),
    message: textOf(readSafely(error, "message"), ""),
    stack: typeof stack === "string" ? shortened(stack, LONGEST_TEXT) : undefined,
    tag: typeof tag === "string" ? tag : undefined,
    builtIn: tag === undefined ? BUILT_INS.find((name) => isBuiltIn(error, name)) : undefined,
    ...ownFields(error, take),
  };
}

function textOf(value: unknown, fallback: string): string {
  if (value === undefined) return fallback;
  return typeof value === "string" ? shortened(value, LONGEST_TEXT) : printedValue(value);
}

function builtInOf(name: string): (abstract new (...args: never[]) => Error) | undefined {
  const builtIn: unknown = Reflect.get(globalThis, name);
  return typeof builtIn === "function" ? (builtIn as abstract new (...args: never[]) => Error) : undefined;
}

function isBuiltIn(error: Error, name: string): boolean {
  const builtIn = builtInOf(name);
  return builtIn !== undefined && isInstance(error, builtIn);
}

function ownFields(
  error: Error,
  take: (value: unknown) => PlainValue<PlainError> | undefined,
): Pick<PlainError, "fields" | "hidden"> {
  const fields: [string, PlainValue<PlainError>][] = [];
  const hidden: [string, PlainValue<PlainError>][] = [];
  for (const [key, isShown] of ownKeys(error)) {
    if (NOT_FIELDS.has(key)) continue;
    const isHidden = key === "cause" || !isShown;
    if (isHidden && !HIDDEN.has(key)) continue;
    const value = readSafely(error, key);
    const plain = key === "errors" && Array.isArray(value) ? plainErrors(value, take) : takeOrPrint(key, value, take);
    if (plain !== undefined) (isHidden ? hidden : fields).push([key, plain]);
  }
  return {
    fields: fields.length > 0 ? Object.fromEntries(fields) : undefined,
    hidden: hidden.length > 0 ? Object.fromEntries(hidden) : undefined,
  };
}

/** What an AggregateError holds; what is not data in words. */
function plainErrors(
  errors: readonly unknown[],
  take: (value: unknown) => PlainValue<PlainError> | undefined,
): PlainValue<PlainError> {
  return errors.slice(0, MOST_ERRORS).map((error) => take(error) ?? printedValue(error));
}

function takeOrPrint(
  key: string,
  value: unknown,
  take: (value: unknown) => PlainValue<PlainError> | undefined,
): PlainValue<PlainError> | undefined {
  // A cause that is an error and was not taken is one that loops, or is too deep.
  return take(value) ?? (key === "cause" && !isInstance(value, Error) ? printedValue(value) : undefined);
}

/** Names of own properties, with whether they are enumerable. */
function ownKeys(error: Error): (readonly [string, boolean])[] {
  try {
    return Object.getOwnPropertyNames(error).map((key) => [
      key,
      Object.prototype.propertyIsEnumerable.call(error, key),
    ]);
  } catch {
    return [];
  }
}

/**
 * The error that {@link toPlainError} took apart: an instance of its class, with its fields, its cause and its stack.
 */
export function fromPlainError(plain: PlainError): Error {
  const error = emptyOf(plain);
  for (const [key, value] of Object.entries(plain.fields ?? {})) {
    Object.defineProperty(error, key, {
      value: fromPlainValue(value, fromPlainError),
      configurable: true,
      enumerable: true,
      writable: true,
    });
  }
  for (const [key, value] of Object.entries(plain.hidden ?? {}))
    setHidden(error, key, fromPlainValue(value, fromPlainError));
  if (plain.stack !== undefined) setHidden(error, "stack", plain.stack);
  return error;
}

function emptyOf({ tag, builtIn, name, message }: PlainError): Error {
  if (tag !== undefined) {
    const known = errorClassOf(tag);
    if (known !== undefined) return Object.setPrototypeOf(new Error(message), known.prototype) as Error;
    const remote = new RemoteError(tag, message);
    becomeWhenRegistered(tag, remote);
    return remote;
  }
  const found = builtIn === undefined ? undefined : builtInOf(builtIn);
  if (builtIn === "DOMException" && found !== undefined) return Reflect.construct(found, [message, name]) as Error;
  const error = new Error(message);
  if (found !== undefined) Object.setPrototypeOf(error, found.prototype as object);
  if (error.name !== name) setHidden(error, "name", name);
  return error;
}

function setHidden(error: Error, key: string, value: unknown): void {
  Object.defineProperty(error, key, { value, configurable: true, enumerable: false, writable: true });
}
