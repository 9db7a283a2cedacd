import { type PlainError, toPlainError } from "../../plain-error.ts";
import { RECORD_WORDS } from "./control-block.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const CAPACITY = (RECORD_WORDS - 1) * 4;
const LONGEST_MESSAGE = 600;

/** Writes an error into a record (a length word, then JSON). Shortens it until it fits. */
export function writeErrorRecord(words: Int32Array, record: number, thrown: unknown): void {
  const plain = toPlainError(thrown);
  for (const form of [withoutStack(plain), brief(plain)]) {
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

function withoutStack(plain: PlainError): PlainError {
  return {
    name: plain.name,
    message: plain.message,
    fields: plain.fields,
    cause: plain.cause === undefined ? undefined : withoutStack(plain.cause),
  };
}

function brief(plain: PlainError): PlainError {
  return { name: "Error", message: `${plain.name}: ${plain.message}`.slice(0, LONGEST_MESSAGE) };
}
