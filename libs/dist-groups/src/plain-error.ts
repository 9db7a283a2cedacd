import {
  ArgumentError,
  HeapExhausted,
  InvalidFree,
  LockstepError,
  ResourceClosed,
  SafetensorsError,
  UseAfterFree,
} from "@lockstep/tensor";
import {
  CallInterrupted,
  CallTimeout,
  CloseFailed,
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  GroupDestroyed,
  OptionsDisagree,
  RankCrashed,
  ReentrantCollective,
  RemoteError,
  WorldClosed,
  WorldStartFailed,
} from "./errors.ts";

/**
 * An error as plain data. Structured cloning and JSON both lose an error's class and fields, so errors cross worker
 * boundaries and the shared memory in this form.
 */
export interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string | undefined;
  /** Own enumerable fields that are data. Present for typed errors only. */
  readonly fields?: Readonly<Record<string, unknown>> | undefined;
  readonly cause?: PlainError | undefined;
}

interface ErrorClass {
  readonly prototype: LockstepError;
}

const classes = new Map<string, ErrorClass>();

/** Makes {@link fromPlainError} rebuild errors with this `_tag` as instances of `errorClass` on this thread. */
export function registerErrorClass(tag: string, errorClass: ErrorClass): void {
  classes.set(tag, errorClass);
}

for (const [tag, errorClass] of Object.entries({
  ArgumentError,
  HeapExhausted,
  InvalidFree,
  ResourceClosed,
  SafetensorsError,
  UseAfterFree,
  CallInterrupted,
  CallTimeout,
  CloseFailed,
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  GroupDestroyed,
  OptionsDisagree,
  RankCrashed,
  ReentrantCollective,
  WorldClosed,
  WorldStartFailed,
})) {
  registerErrorClass(tag, errorClass);
}

const DEEPEST_CAUSE = 8;

/** Any thrown value as plain data. */
export function toPlainError(thrown: unknown, depth = 0): PlainError {
  if (!(thrown instanceof Error)) return { name: "Error", message: `a value that is not an Error: ${String(thrown)}` };
  const cause = thrown.cause;
  return {
    name: thrown.name,
    message: thrown.message,
    stack: thrown.stack,
    fields: thrown instanceof LockstepError ? dataFields(thrown) : undefined,
    cause: cause instanceof Error && depth < DEEPEST_CAUSE ? toPlainError(cause, depth + 1) : undefined,
  };
}

function dataFields(error: LockstepError): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  // Bun puts line, column and sourceURL on errors as own fields.
  const own = new Set(["stack", "message", "cause", "name", "line", "column", "sourceURL"]);
  for (const [key, value] of Object.entries(error)) {
    if (!own.has(key) && isData(value)) fields[key] = value;
  }
  return fields;
}

function isData(value: unknown): boolean {
  if (value === null || ["string", "number", "boolean", "undefined", "bigint"].includes(typeof value)) return true;
  if (typeof value !== "object") return false;
  if (Array.isArray(value)) return value.every(isData);
  return Object.getPrototypeOf(value) === Object.prototype && Object.values(value).every(isData);
}

/** The error that {@link toPlainError} took apart: typed where its class is registered, with all fields and the cause. */
export function fromPlainError(plain: PlainError): Error {
  let error: Error;
  const known = classes.get(plain.name);
  if (plain.fields === undefined) {
    error = new Error(plain.message);
    error.name = plain.name;
  } else if (known === undefined) {
    error = Object.assign(new RemoteError(plain.name, plain.message), plain.fields);
  } else {
    error = Object.assign(new Error(plain.message), plain.fields);
    Object.setPrototypeOf(error, known.prototype);
  }
  if (plain.stack !== undefined) {
    Object.defineProperty(error, "stack", { value: plain.stack, configurable: true, writable: true });
  }
  if (plain.cause !== undefined) {
    Object.defineProperty(error, "cause", {
      value: fromPlainError(plain.cause),
      configurable: true,
      enumerable: false,
      writable: true,
    });
  }
  return error;
}
