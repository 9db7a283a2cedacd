import type { ByteSource } from "./byte-source.ts";
import { describe } from "./describe.ts";
import { DTYPE_BYTES, type DType } from "./dtype.ts";
import { SafetensorsError } from "./errors.ts";
import { repeatedKey } from "./repeated-key.ts";
import { elementCount } from "./shape.ts";

/** Dtypes that tensors have, by the format's names. */
export const DTYPE_OF_NAME: ReadonlyMap<string, DType> = new Map([
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
  ["I32", "i32"],
  ["U32", "u32"],
  ["U8", "u8"],
  ["F8_E4M3", "f8e4m3"],
  ["I8", "i8"],
]);
/** Bytes per element of the format's other dtypes: known, but without a tensor dtype of ours. */
const OTHER_BYTES: ReadonlyMap<string, number> = new Map([
  ["BOOL", 1],
  ["I16", 2],
  ["U16", 2],
  ["I64", 8],
  ["U64", 8],
  ["F64", 8],
  ["F8_E5M2", 1],
]);
const MAX_HEADER_BYTES = 100_000_000;

/** Where the file holds a tensor. */
export interface SafetensorsEntry {
  /** The format's name, such as F32. */
  readonly typeName: string;
  readonly shape: readonly number[];
  /** Byte range within the file. */
  readonly start: number;
  readonly end: number;
}

/** What a file's header says, checked against the file's size. */
export interface SafetensorsHeader {
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads and checks the header: offsets neither overlap nor leave gaps, and end where the file does; no
 * key stands twice. @throws SafetensorsError
 */
export function readSafetensorsHeader(source: ByteSource): SafetensorsHeader {
  const { name: path, byteLength: fileBytes } = source;
  const length = readBytes(source, "the header's length", 0, 8);
  const headerBytes = Number(new DataView(length.buffer).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES || 8 + headerBytes > fileBytes) {
    throw new SafetensorsError(path, `a header of ${headerBytes} bytes`, `${fileBytes} bytes in all`);
  }
  const bytes = readBytes(source, "the header", 8, headerBytes);
  if (bytes[0] !== 0x7b) throw new SafetensorsError(path, "a header that begins with {", "something else");
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    header = JSON.parse(text);
  } catch {
    throw new SafetensorsError(path, "a JSON header", "something else");
  }
  if (!isRecord(header)) throw new SafetensorsError(path, "a JSON object as header", "another value");
  const repeated = repeatedKey(text);
  if (repeated !== undefined) throw new SafetensorsError(path, "every name once", `${describe(repeated)} twice`);
  let metadata: Record<string, string> = {};
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") metadata = readMetadata(path, value);
    else entries.set(name, readEntry(path, name, value, 8 + headerBytes, fileBytes));
  }
  checkCoverage(path, entries, 8 + headerBytes, fileBytes);
  return { entries, metadata };
}

/** `length` bytes from `start` on. @throws SafetensorsError when the file has fewer, or cannot be read */
export function readBytes(source: ByteSource, what: string, start: number, length: number): Uint8Array<ArrayBuffer> {
  const { name, byteLength } = source;
  if (start + length > byteLength) {
    throw new SafetensorsError(name, `${length} bytes of ${what}`, `${Math.max(0, byteLength - start)} bytes`);
  }
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const got = source.read(what, bytes, done, length - done, start + done);
    if (got === 0) throw new SafetensorsError(name, `${length} bytes of ${what}`, `${done} bytes`);
    done += got;
  }
  return bytes;
}

function readMetadata(path: string, value: unknown): Record<string, string> {
  const isStrings = isRecord(value) && Object.values(value).every((text) => typeof text === "string");
  if (!isStrings) throw new SafetensorsError(path, "__metadata__ to hold strings by name", describe(value));
  return value as Record<string, string>;
}

function readEntry(path: string, name: string, value: unknown, dataStart: number, fileBytes: number): SafetensorsEntry {
  const what = describe(name);
  if (!isRecord(value) || !isCountList(value.shape) || !isCountList(value.data_offsets)) {
    throw new SafetensorsError(path, `dtype, shape and data_offsets of ${what}`, describe(value));
  }
  const { dtype: typeName, shape, data_offsets: offsets } = value;
  const known = [...DTYPE_OF_NAME.keys(), ...OTHER_BYTES.keys()].join(", ");
  if (typeof typeName !== "string") throw new SafetensorsError(path, `a dtype of ${what}`, describe(typeName));
  const dtype = DTYPE_OF_NAME.get(typeName);
  const elementBytes = dtype === undefined ? OTHER_BYTES.get(typeName) : DTYPE_BYTES[dtype];
  if (elementBytes === undefined) {
    throw new SafetensorsError(path, `${what} to have one of the dtypes ${known}`, describe(typeName));
  }
  const [from = 0, to = 0] = offsets;
  if (offsets.length !== 2 || to < from) {
    throw new SafetensorsError(path, `data_offsets of ${what} to be [begin, end]`, describe(JSON.stringify(offsets)));
  }
  const most = shape.reduce((count, size) => count * Math.max(1, size), elementBytes);
  if (most > Number.MAX_SAFE_INTEGER) {
    throw new SafetensorsError(path, `a shape of ${what} that can be counted`, describe(JSON.stringify(shape)));
  }
  const bytes = elementCount(shape) * elementBytes;
  if (to - from !== bytes) throw new SafetensorsError(path, `${bytes} bytes for ${what}`, `${to - from} bytes`);
  if (dataStart + to > fileBytes) {
    throw new SafetensorsError(path, `${what} to end at byte ${dataStart + to}`, `a file of ${fileBytes} bytes`);
  }
  return { typeName, shape, start: dataStart + from, end: dataStart + to };
}

/** Throws unless the tensors, in the order of their offsets, follow each other without gaps to the end of the file. */
function checkCoverage(
  path: string,
  entries: ReadonlyMap<string, SafetensorsEntry>,
  dataStart: number,
  fileBytes: number,
): void {
  const ordered = [...entries].sort(([, a], [, b]) => a.start - b.start || a.end - b.end);
  let covered = dataStart;
  for (const [name, { start, end }] of ordered) {
    if (start !== covered) {
      const expected = `${describe(name)} to begin at byte ${covered - dataStart} of the data`;
      const kind = start < covered ? "overlaps the tensor before" : "leaves a gap";
      throw new SafetensorsError(path, expected, `${start - dataStart}, which ${kind}`);
    }
    covered = end;
  }
  if (covered !== fileBytes) {
    throw new SafetensorsError(path, `the file to end at byte ${covered}`, `${fileBytes - covered} bytes beyond it`);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCountList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}
