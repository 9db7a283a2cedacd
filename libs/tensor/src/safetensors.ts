import { closeSync, fstatSync, openSync, readSync, writeFileSync } from "node:fs";
import { DTYPE_BYTES, type DType } from "./dtype.ts";
import { ArgumentError, SafetensorsError } from "./errors.ts";
import { elementCount } from "./shape.ts";
import { type Allocator, SharedHeap } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

const DTYPE_OF_NAME: ReadonlyMap<string, DType> = new Map([
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
const NAME_OF_DTYPE = new Map([...DTYPE_OF_NAME].map(([name, dtype]) => [dtype, name]));
const MAX_HEADER_BYTES = 100_000_000;

interface Entry {
  /** The format's name, such as F32. */
  readonly typeName: string;
  readonly shape: readonly number[];
  /** Byte range within the file. */
  readonly start: number;
  readonly end: number;
}

/**
 * An open safetensors file: the header is read and checked at once, tensors are read when asked for.
 * Format: https://huggingface.co/docs/safetensors.
 */
export class SafetensorsFile implements Disposable {
  readonly path: string;
  /** The `__metadata__` entry. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #descriptor: number;
  #closed = false;

  private constructor(
    path: string,
    descriptor: number,
    entries: ReadonlyMap<string, Entry>,
    metadata: Readonly<Record<string, string>>,
  ) {
    this.path = path;
    this.#descriptor = descriptor;
    this.#entries = entries;
    this.metadata = metadata;
  }

  /** Opens a file; throws {@link SafetensorsError} when it is truncated, malformed, or names a dtype unknown to the format. */
  static open(path: string): SafetensorsFile {
    let descriptor: number;
    try {
      descriptor = openSync(path, "r");
    } catch {
      throw new SafetensorsError(path, "a readable file", "none");
    }
    try {
      const { entries, metadata } = readHeader(path, descriptor);
      return new SafetensorsFile(path, descriptor, entries, metadata);
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  }

  /** Names of the tensors, in the order of the header. */
  get names(): string[] {
    return [...this.#entries.keys()];
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  /** Dtype and shape of a tensor without reading it. @throws SafetensorsError for a dtype that tensors do not have */
  info(name: string): { readonly dtype: DType; readonly shape: readonly number[] } {
    const { typeName, shape } = this.#entry(name);
    const dtype = DTYPE_OF_NAME.get(typeName);
    if (dtype === undefined) {
      throw new SafetensorsError(this.path, `${name} of dtype ${[...DTYPE_OF_NAME.keys()].join(", ")}`, typeName);
    }
    return { dtype, shape };
  }

  /** A small tensor as numbers in row-major order; also I64 and F64, which tensors do not have. */
  readNumbers(name: string): Float64Array {
    const { typeName, shape, start, end } = this.#entry(name);
    const count = elementCount(shape);
    if (typeName !== "I64" && typeName !== "F64") {
      const bytes = end - start;
      const tensor = this.read(name, SharedHeap.create(bytes + 4096));
      return tensor.toNumbers();
    }
    const raw = new Uint8Array(end - start);
    const got = readSync(this.#descriptor, raw, 0, raw.length, start);
    if (got < raw.length) throw new SafetensorsError(this.path, `${raw.length} bytes of ${name}`, `${got} bytes`);
    if (typeName === "F64") return new Float64Array(raw.buffer, 0, count);
    return Float64Array.from(new BigInt64Array(raw.buffer, 0, count), Number);
  }

  /** Reads one tensor, bit for bit. */
  read(name: string, allocator: Allocator): Tensor {
    const entry = this.#entry(name);
    const { dtype } = this.info(name);
    const tensor = Tensor.empty(allocator, dtype, entry.shape);
    // Runtimes may refuse shared memory as a read target: read into private memory, then copy.
    const chunk = new Uint8Array(Math.min(entry.end - entry.start, 1 << 24));
    const target = tensor.bytes;
    for (let done = 0; done < target.length; ) {
      const wanted = Math.min(chunk.length, target.length - done);
      const got = readSync(this.#descriptor, chunk, 0, wanted, entry.start + done);
      if (got === 0) {
        tensor.free();
        throw new SafetensorsError(this.path, `${target.length} bytes of ${name}`, `${done} bytes`);
      }
      target.set(got === chunk.length ? chunk : chunk.subarray(0, got), done);
      done += got;
    }
    return tensor;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#descriptor);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) {
      throw new ArgumentError("SafetensorsFile", "name", `a tensor of ${this.path}`, name);
    }
    return entry;
  }
}

/** Writes tensors (any strides) and string metadata as a safetensors file, replacing an existing one. */
export function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [name: string, tensor: Tensor]>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  const header: Record<string, unknown> = { __metadata__: metadata };
  const bodies: Uint8Array[] = [];
  let offset = 0;
  for (const [name, tensor] of tensors) {
    const bytes = rawBytes(tensor);
    header[name] = {
      dtype: NAME_OF_DTYPE.get(tensor.dtype),
      shape: tensor.shape,
      data_offsets: [offset, offset + bytes.length],
    };
    bodies.push(bytes);
    offset += bytes.length;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(json.length / 8) * 8;
  const head = new Uint8Array(8 + padded).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(padded), true);
  head.set(json, 8);
  const file = new Uint8Array(head.length + offset);
  file.set(head);
  let at = head.length;
  for (const body of bodies) {
    file.set(body, at);
    at += body.length;
  }
  writeFileSync(path, file);
}

function rawBytes(tensor: Tensor): Uint8Array {
  if (tensor.isContiguous) return tensor.bytes;
  const width = DTYPE_BYTES[tensor.dtype];
  const packed = new Uint8Array(tensor.byteLength);
  const view = new Uint8Array(tensor.heap.buffer);
  const walk = (dim: number, from: number, to: number): void => {
    if (dim === tensor.rank) {
      packed.set(view.subarray(from, from + width), to);
      return;
    }
    const inner = elementCount(tensor.shape.slice(dim + 1)) * width;
    for (let index = 0; index < tensor.dim(dim); index++) {
      walk(dim + 1, from + index * tensor.stride(dim) * width, to + index * inner);
    }
  };
  if (tensor.size > 0) walk(0, tensor.byteOffset, 0);
  return packed;
}

function readHeader(
  path: string,
  descriptor: number,
): { entries: Map<string, Entry>; metadata: Record<string, string> } {
  const fileBytes = fstatSync(descriptor).size;
  const length = new Uint8Array(8);
  if (readSync(descriptor, length, 0, 8, 0) < 8) {
    throw new SafetensorsError(path, "an 8-byte header length", `${fileBytes} bytes`);
  }
  const headerBytes = Number(new DataView(length.buffer).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES || 8 + headerBytes > fileBytes) {
    throw new SafetensorsError(path, `a header of ${headerBytes} bytes`, `${fileBytes} bytes in all`);
  }
  const text = new Uint8Array(headerBytes);
  readSync(descriptor, text, 0, headerBytes, 8);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
  } catch {
    throw new SafetensorsError(path, "a JSON header", "something else");
  }
  if (!isRecord(header)) throw new SafetensorsError(path, "a JSON object as header", "another value");
  const metadata: Record<string, string> = {};
  const entries = new Map<string, Entry>();
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") {
      if (isRecord(value)) for (const [key, text] of Object.entries(value)) metadata[key] = String(text);
      continue;
    }
    entries.set(name, readEntry(path, name, value, 8 + headerBytes, fileBytes));
  }
  return { entries, metadata };
}

function readEntry(path: string, name: string, value: unknown, dataStart: number, fileBytes: number): Entry {
  if (!isRecord(value) || !isCountList(value.shape) || !isCountList(value.data_offsets)) {
    throw new SafetensorsError(path, `dtype, shape and data_offsets of ${name}`, JSON.stringify(value));
  }
  const typeName = String(value.dtype);
  const dtype = DTYPE_OF_NAME.get(typeName);
  const elementBytes = dtype === undefined ? OTHER_BYTES.get(typeName) : DTYPE_BYTES[dtype];
  if (elementBytes === undefined) {
    const known = [...DTYPE_OF_NAME.keys(), ...OTHER_BYTES.keys()].join(", ");
    throw new SafetensorsError(path, `${name} to have one of the dtypes ${known}`, typeName);
  }
  const [from = 0, to = 0] = value.data_offsets;
  const bytes = elementCount(value.shape) * elementBytes;
  if (to - from !== bytes) throw new SafetensorsError(path, `${bytes} bytes for ${name}`, `${to - from} bytes`);
  if (dataStart + to > fileBytes) {
    throw new SafetensorsError(path, `${name} to end at byte ${dataStart + to}`, `a file of ${fileBytes} bytes`);
  }
  return { typeName, shape: value.shape, start: dataStart + from, end: dataStart + to };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCountList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}
