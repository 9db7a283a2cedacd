import { type PlainError, toPlainError } from "./plain-error.ts";
import type { PlainValue } from "./plain-value.ts";
import { shortened } from "./printed-value.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
/** 16 KiB, with the length in the first word. */
export const ERROR_RECORD_WORDS = 4096;
const CAPACITY = (ERROR_RECORD_WORDS - 1) * 4;

/** How much of an error is written. */
interface Extent {
  readonly longestText: number;
  readonly mostElements: number;
  /** Causes, and causes of causes. */
  readonly causes: number;
}

/** The most that fits is written. The last is the error's class and a message, and always fits. */
const EXTENTS: readonly Extent[] = [
  { longestText: 8_000, mostElements: 256, causes: 8 },
  { longestText: 1_000, mostElements: 64, causes: 3 },
  { longestText: 300, mostElements: 8, causes: 1 },
];
const LONGEST_MESSAGE = 600;

/** Writes an error into a record (a length word, then JSON). Shortens it until it fits. */
export function writeErrorRecord(words: Int32Array, record: number, thrown: unknown): void {
  const plain = toPlainError(thrown);
  for (const form of [...EXTENTS.map((extent) => within(plain, extent, extent.causes)), brief(plain)]) {
    const bytes = encoder.encode(JSON.stringify(form));
    if (bytes.length > CAPACITY) continue;
    new Uint8Array(words.buffer, words.byteOffset + (record + 1) * 4, bytes.length).set(bytes);
    words[record] = bytes.length;
    return;
  }
}

/** The error {@link writeErrorRecord} wrote. A writer that was stopped in the middle leaves a text that says so. */
export function readErrorRecord(words: Int32Array, record: number): PlainError {
  const length = words[record] ?? 0;
  // TextDecoder refuses shared memory: decode a copy.
  const bytes = new Uint8Array(length);
  bytes.set(new Uint8Array(words.buffer, words.byteOffset + (record + 1) * 4, length));
  try {
    return JSON.parse(decoder.decode(bytes)) as PlainError;
  } catch {
    return { name: "Error", message: "its cause was cut off while it was written." };
  }
}

/** An error without its stack and within an extent. */
function within(
  { name, message, tag, builtIn, fields, hidden }: PlainError,
  extent: Extent,
  causes: number,
): PlainError {
  const valueWithin = (value: PlainValue<PlainError>): PlainValue<PlainError> => {
    if (typeof value === "string") return shortened(value, extent.longestText);
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) return value.slice(0, extent.mostElements).map(valueWithin);
    if ("error" in value) return { error: within(value.error, extent, causes - 1) };
    return "object" in value ? { object: eachOf(value.object) } : value;
  };
  const eachOf = (values: Readonly<Record<string, PlainValue<PlainError>>>): Record<string, PlainValue<PlainError>> =>
    Object.fromEntries(Object.entries(values).map(([key, value]) => [key, valueWithin(value)]));
  return {
    name: shortened(name, extent.longestText),
    message: shortened(message, extent.longestText),
    tag,
    builtIn,
    fields: fields === undefined ? undefined : eachOf(fields),
    hidden: hidden === undefined || causes <= 0 ? undefined : eachOf(hidden),
  };
}

function brief({ name, message, tag, builtIn }: PlainError): PlainError {
  const fields = tag === undefined ? undefined : { _tag: tag };
  return { name: shortened(name, 100), message: shortened(message, LONGEST_MESSAGE), tag, builtIn, fields };
}
