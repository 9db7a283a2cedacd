import { type ByteSource, bytesInMemory, openFile } from "./byte-source.ts";
import { describe } from "./describe.ts";
import { DTYPE_BYTES, type DType, elementArray } from "./dtype.ts";
import { decoder } from "./element-codec.ts";
import { ArgumentError, ResourceClosed, SafetensorsError } from "./errors.ts";
import { DTYPE_OF_NAME, readBytes, readSafetensorsHeader, type SafetensorsEntry } from "./safetensors-header.ts";
import { readRuns, runsOf, type TensorPart } from "./safetensors-part.ts";
import { elementCount, formatShape } from "./shape.ts";
import type { Allocator } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

/** Most bytes of one read of a tensor. */
const READ_BYTES = 1 << 20;

/**
 * An open safetensors file, on disk or in memory: the header is read and checked at once, tensors are read when asked
 * for. A closed file says so from every method. Format: https://huggingface.co/docs/safetensors.
 */
export class SafetensorsFile implements Disposable {
  /** Where it lies; of bytes in memory, what they are called. */
  readonly path: string;
  /** The `__metadata__` entry. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly #source: ByteSource;
  /** What is read goes through it: runtimes may refuse shared memory as a read target. */
  #buffer = new Uint8Array(0);
  #closed = false;

  private constructor(source: ByteSource) {
    const { entries, metadata } = readSafetensorsHeader(source);
    this.path = source.name;
    this.#source = source;
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
    const source = openFile(path);
    try {
      return new SafetensorsFile(source);
    } catch (error) {
      source.close();
      throw error;
    }
  }

  /**
   * A file whose bytes are in memory already: fetched, or embedded in a program. They are read in place, and must not
   * change. @param name what errors call it
   * @throws ArgumentError unless they are bytes; SafetensorsError as {@link SafetensorsFile.open}
   */
  static from(bytes: Uint8Array, name = "safetensors"): SafetensorsFile {
    const operation = "SafetensorsFile.from";
    if (typeof name !== "string") throw new ArgumentError(operation, "name", "a text", describe(name));
    return new SafetensorsFile(bytesInMemory(operation, name, bytes));
  }

  /** Names of the tensors, in the order of the header. */
  get names(): string[] {
    this.#expectOpen("names");
    return [...this.#entries.keys()];
  }

  /** Whether the file has a tensor of this `name`. */
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

  /**
   * Dtype and shape of tensor `name` without reading it. @throws SafetensorsError for a dtype that tensors do not have
   */
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

  /** A small tensor, `name`, as numbers in row-major order; also I64 and F64, which tensors do not have. */
  readNumbers(name: string): Float64Array {
    const { typeName, shape, start, end } = this.#entry("readNumbers", name);
    const count = elementCount(shape);
    const isWide = typeName === "I64" || typeName === "F64";
    const dtype = isWide ? "u8" : this.info(name).dtype;
    const { buffer } = readBytes(this.#source, describe(name), start, end - start);
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

  /** Reads tensor `name`, bit for bit. */
  read(name: string, allocator: Allocator): Tensor {
    const entry = this.#entry("read", name);
    const tensor = Tensor.empty(allocator, this.info(name).dtype, entry.shape);
    try {
      this.#readPart(name, entry, {}, tensor, "read");
    } catch (error) {
      tensor.free();
      throw error;
    }
    return tensor;
  }

  /**
   * Reads tensor `name`, or a part of it, bit for bit into a contiguous tensor of the same dtype and of the part's
   * shape, in reads of at most 1 MiB, with no copy of the whole.
   * @throws ArgumentError before anything is written; SafetensorsError when the file cannot be read, which leaves the
   *   target partly written
   */
  readInto(name: string, target: Tensor, part: TensorPart = {}): void {
    this.#readPart(name, this.#entry("readInto", name), part, target, "readInto");
  }

  #readPart(name: string, entry: SafetensorsEntry, part: TensorPart, target: Tensor, method: string): void {
    const operation = `SafetensorsFile.${method}`;
    const { dtype, shape } = this.info(name);
    const runs = runsOf(operation, shape, part);
    if (!Tensor.isTensor(target)) throw new ArgumentError(operation, "target", "a tensor", describe(target));
    target.assertUsable(operation, "target");
    const isSameShape = target.shape.length === runs.shape.length && target.shape.every((n, d) => n === runs.shape[d]);
    if (target.dtype !== dtype || !isSameShape || !target.isContiguous) {
      const expected = `a contiguous tensor ${dtype} ${formatShape(runs.shape)}`;
      throw new ArgumentError(operation, "target", expected, target.toString());
    }
    const wanted = Math.min(READ_BYTES, entry.end - entry.start);
    if (this.#buffer.length < wanted) this.#buffer = new Uint8Array(wanted);
    const elementBytes = DTYPE_BYTES[dtype];
    const stored = { source: this.#source, what: describe(name), start: entry.start, elementBytes };
    readRuns(stored, runs, this.#buffer, target.bytes);
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#buffer = new Uint8Array(0);
    this.#source.close();
  }

  /** As `close`. */
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
