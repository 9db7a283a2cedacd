import { closeSync, openSync, statSync, writeFileSync } from "node:fs";
import { describe } from "./describe.ts";
import { DTYPE_BYTES, type DType, elementArray } from "./dtype.ts";
import { decoder } from "./element-codec.ts";
import { ArgumentError, ResourceClosed, SafetensorsError } from "./errors.ts";
import {
  DTYPE_OF_NAME,
  failureCode,
  readBytes,
  readSafetensorsHeader,
  readSome,
  type SafetensorsEntry,
} from "./safetensors-header.ts";
import { elementCount } from "./shape.ts";
import type { Allocator } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

const NAME_OF_DTYPE = new Map([...DTYPE_OF_NAME].map(([name, dtype]) => [dtype, name]));

/**
 * An open safetensors file: the header is read and checked at once, tensors are read when asked for.
 * A closed file says so from every method. Format: https://huggingface.co/docs/safetensors.
 */
export class SafetensorsFile implements Disposable {
  readonly path: string;
  /** The `__metadata__` entry. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly #descriptor: number;
  #closed = false;

  private constructor(
    path: string,
    descriptor: number,
    entries: ReadonlyMap<string, SafetensorsEntry>,
    metadata: Readonly<Record<string, string>>,
  ) {
    this.path = path;
    this.#descriptor = descriptor;
    this.#entries = entries;
    this.metadata = metadata;
  }

  /**
   * Opens a file; throws {@link SafetensorsError} when it is truncated, malformed, or names a dtype unknown to the
   * format.
   */
  static open(path: string): SafetensorsFile {
    if (typeof path !== "string") {
      throw new ArgumentError("SafetensorsFile.open", "path", "the path of a file", describe(path));
    }
    let descriptor: number;
    try {
      // Asked before it is opened: opening a pipe waits for somebody to write.
      if (!statSync(path).isFile()) throw new SafetensorsError(path, "a file", "something else, such as a directory");
      descriptor = openSync(path, "r");
    } catch (error) {
      if (error instanceof SafetensorsError) throw error;
      throw new SafetensorsError(path, "a readable file", failureCode(error));
    }
    try {
      const { entries, metadata } = readSafetensorsHeader(path, descriptor);
      return new SafetensorsFile(path, descriptor, entries, metadata);
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  }

  /** Names of the tensors, in the order of the header. */
  get names(): string[] {
    this.#expectOpen("names");
    return [...this.#entries.keys()];
  }

  has(name: string): boolean {
    this.#expectOpen("has");
    return this.#entries.has(name);
  }

  /**
   * The format's name of a tensor's dtype, such as F64, and its shape, without reading it: also where tensors have
   * none.
   */
  stored(name: string): { readonly typeName: string; readonly shape: readonly number[] } {
    const { typeName, shape } = this.#entry("stored", name);
    return { typeName, shape };
  }

  /** Dtype and shape of a tensor without reading it. @throws SafetensorsError for a dtype that tensors do not have */
  info(name: string): { readonly dtype: DType; readonly shape: readonly number[] } {
    const { typeName, shape } = this.#entry("info", name);
    const dtype = DTYPE_OF_NAME.get(typeName);
    if (dtype === undefined) {
      throw new SafetensorsError(
        this.path,
        `${describe(name)} of dtype ${[...DTYPE_OF_NAME.keys()].join(", ")}`,
        typeName,
      );
    }
    return { dtype, shape };
  }

  /** A small tensor as numbers in row-major order; also I64 and F64, which tensors do not have. */
  readNumbers(name: string): Float64Array {
    const { typeName, shape, start, end } = this.#entry("readNumbers", name);
    const count = elementCount(shape);
    const isWide = typeName === "I64" || typeName === "F64";
    const dtype = isWide ? "u8" : this.info(name).dtype;
    const { buffer } = readBytes(this.path, describe(name), this.#descriptor, start, end - start, end);
    if (typeName === "F64") return new Float64Array(buffer, 0, count);
    if (typeName === "I64") return this.#safeIntegers(name, new BigInt64Array(buffer, 0, count));
    return Float64Array.from(elementArray(dtype, buffer, 0, count), decoder(dtype));
  }

  #safeIntegers(name: string, integers: BigInt64Array): Float64Array {
    return Float64Array.from(integers, (integer) => {
      const number = Number(integer);
      if (Number.isSafeInteger(number)) return number;
      throw new SafetensorsError(this.path, `integers of ${describe(name)} below 2^53`, String(integer));
    });
  }

  /** Reads one tensor, bit for bit. */
  read(name: string, allocator: Allocator): Tensor {
    const entry = this.#entry("read", name);
    const { dtype } = this.info(name);
    const tensor = Tensor.empty(allocator, dtype, entry.shape);
    // Runtimes may refuse shared memory as a read target: read into private memory, then copy.
    const chunk = new Uint8Array(Math.min(entry.end - entry.start, 1 << 24));
    const target = tensor.bytes;
    try {
      for (let done = 0; done < target.length; ) {
        const wanted = Math.min(chunk.length, target.length - done);
        const got = readSome(this.path, describe(name), this.#descriptor, chunk, 0, wanted, entry.start + done);
        if (got === 0) {
          throw new SafetensorsError(this.path, `${target.length} bytes of ${describe(name)}`, `${done} bytes`);
        }
        target.set(got === chunk.length ? chunk : chunk.subarray(0, got), done);
        done += got;
      }
    } catch (error) {
      tensor.free();
      throw error;
    }
    return tensor;
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#descriptor);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #entry(method: string, name: string): SafetensorsEntry {
    this.#expectOpen(method);
    const entry = this.#entries.get(name);
    if (entry === undefined) {
      throw new ArgumentError(`SafetensorsFile.${method}`, "name", `a tensor of ${this.path}`, describe(name));
    }
    return entry;
  }

  #expectOpen(method: string): void {
    if (this.#closed) throw new ResourceClosed(`SafetensorsFile.${method}`, this.path, "Open it again.");
  }
}

type NamedTensor = readonly [name: string, tensor: Tensor];

/** What is to be written. @throws ArgumentError unless it is pairs */
function namedTensors(tensors: Iterable<NamedTensor>): readonly NamedTensor[] {
  const isIterable = typeof tensors === "object" && tensors !== null && typeof tensors[Symbol.iterator] === "function";
  const pairs = isIterable ? [...tensors] : undefined;
  if (pairs?.every((pair) => Array.isArray(pair)) === true) return pairs;
  throw new ArgumentError("writeSafetensors", "tensors", "a list of pairs of a name and a tensor", describe(tensors));
}

/**
 * Writes tensors (any strides) and string metadata as a safetensors file, replacing an existing one. A name may stand
 * once, and `__metadata__` is none. @throws ArgumentError before anything is written; SafetensorsError when the file
 * cannot be written
 */
export function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [name: string, tensor: Tensor]>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  if (typeof path !== "string") throw new ArgumentError("writeSafetensors", "path", "a path", describe(path));
  checkMetadata(metadata);
  // Names such as __proto__ would be lost as properties that are assigned.
  const header = new Map<string, unknown>([["__metadata__", metadata]]);
  const bodies: Uint8Array[] = [];
  let offset = 0;
  for (const [name, tensor] of namedTensors(tensors)) {
    checkName(name, header);
    if (!(tensor instanceof Tensor)) {
      throw new ArgumentError("writeSafetensors", `tensors ${describe(name)}`, "a tensor", describe(tensor));
    }
    tensor.assertUsable("writeSafetensors", `tensors ${describe(name)}`);
    const bytes = rawBytes(tensor);
    header.set(name, {
      dtype: NAME_OF_DTYPE.get(tensor.dtype),
      shape: tensor.shape,
      data_offsets: [offset, offset + bytes.length],
    });
    bodies.push(bytes);
    offset += bytes.length;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
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
  try {
    writeFileSync(path, file);
  } catch (error) {
    throw new SafetensorsError(path, "a place that can be written", failureCode(error), "");
  }
}

function checkName(name: string, used: ReadonlyMap<string, unknown>): void {
  const argument = "tensors";
  if (typeof name !== "string" || !name.isWellFormed()) {
    throw new ArgumentError("writeSafetensors", argument, "named by well-formed text", describe(name));
  }
  if (name === "__metadata__") {
    throw new ArgumentError(
      "writeSafetensors",
      argument,
      "named otherwise: the metadata has that name",
      describe(name),
    );
  }
  if (used.has(name))
    throw new ArgumentError("writeSafetensors", argument, "named once each", `${describe(name)} twice`);
}

function checkMetadata(metadata: Readonly<Record<string, string>>): void {
  if (typeof metadata !== "object" || metadata === null) {
    throw new ArgumentError("writeSafetensors", "metadata", "strings by name", describe(metadata));
  }
  for (const [key, text] of Object.entries(metadata)) {
    if (typeof text === "string" && text.isWellFormed() && key.isWellFormed()) continue;
    throw new ArgumentError("writeSafetensors", `metadata ${describe(key)}`, "well-formed text", describe(text));
  }
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
