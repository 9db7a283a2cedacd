import { failureCode, fileSystem } from "./byte-source.ts";
import { describe } from "./describe.ts";
import { DTYPE_BYTES, type DType } from "./dtype.ts";
import { ArgumentError, ResourceClosed, SafetensorsError } from "./errors.ts";
import { encodeHeader } from "./safetensors-writer.ts";
import { checkShape } from "./shape.ts";

/** A tensor whose bytes will come. */
export interface StreamedTensor {
  /** Its name in the file. */
  readonly name: string;
  /** Dtype of its elements. */
  readonly dtype: DType;
  /** Its shape. */
  readonly shape: readonly number[];
}

/**
 * A safetensors file that is written piece by piece, so that it needs no memory for the whole. It is written beside its
 * place, at `PATH.part`, and moved there when it is complete: whoever opens the path finds the file that was there
 * before or all of the new one. Closing it before it is published removes what was written.
 */
export class SafetensorsStream implements Disposable {
  /** Where the file will be. */
  readonly path: string;
  readonly #files: ReturnType<typeof fileSystem>;
  #descriptor: number | undefined;
  /** Bytes of tensors that are still to come. */
  #left: number;
  #state: "open" | "complete" | "closed" = "open";

  private constructor(path: string, bytes: number) {
    this.path = path;
    this.#left = bytes;
    this.#files = fileSystem(path, "Keep the bytes that encodeSafetensors makes.");
  }

  /**
   * Begins a file of these tensors, in this order, and string metadata.
   * @throws ArgumentError before anything is written; SafetensorsError when nothing can be written beside the path
   */
  static create(
    path: string,
    tensors: readonly StreamedTensor[],
    metadata: Readonly<Record<string, string>> = {},
  ): SafetensorsStream {
    const operation = "SafetensorsStream.create";
    if (typeof path !== "string") throw new ArgumentError(operation, "path", "a path", describe(path));
    if (!Array.isArray(tensors)) throw new ArgumentError(operation, "tensors", "a list of tensors", describe(tensors));
    for (const [index, tensor] of tensors.entries()) {
      const { dtype, shape }: Partial<StreamedTensor> = Object(tensor);
      if (dtype === undefined || !Object.hasOwn(DTYPE_BYTES, dtype)) {
        throw new ArgumentError(operation, `tensors[${index}].dtype`, "a dtype", describe(dtype));
      }
      if (shape === undefined) throw new ArgumentError(operation, `tensors[${index}].shape`, "given", "undefined");
      checkShape(operation, `tensors[${index}].shape`, shape);
    }
    const { head, bodyBytes } = encodeHeader(operation, tensors, metadata);
    const stream = new SafetensorsStream(path, bodyBytes);
    try {
      stream.#descriptor = stream.#files.openSync(stream.#part, "w");
    } catch (error) {
      throw new SafetensorsError(stream.#part, "a place that can be written", failureCode(error), "");
    }
    stream.#put(head);
    return stream;
  }

  /** Bytes of tensors that are still to come. */
  get bytesLeft(): number {
    return this.#left;
  }

  /**
   * Appends the next bytes of the tensors: their elements in row-major order, one tensor after another.
   * @throws ArgumentError when more come than the tensors have; SafetensorsError when they cannot be written: the stream
   *   is closed then
   */
  write(bytes: Uint8Array): void {
    const operation = "SafetensorsStream.write";
    if (this.#state !== "open") throw new ResourceClosed(operation, this.path, "Create another stream.");
    if (!(bytes instanceof Uint8Array)) throw new ArgumentError(operation, "bytes", "a Uint8Array", describe(bytes));
    if (bytes.length > this.#left) {
      throw new ArgumentError(operation, "bytes", `at most the ${this.#left} that are to come`, `${bytes.length}`);
    }
    this.#left -= bytes.length;
    this.#put(bytes);
  }

  /**
   * All bytes are there: they are on the disk when this returns.
   * @throws ArgumentError when some are missing; SafetensorsError when they cannot be written: the stream is closed then
   */
  complete(): void {
    const operation = "SafetensorsStream.complete";
    if (this.#state !== "open") throw new ResourceClosed(operation, this.path, "Create another stream.");
    if (this.#left > 0) {
      throw new ArgumentError(operation, "bytes", "all of the tensors'", `${this.#left} fewer`, "Write them first.");
    }
    const descriptor = this.#descriptor;
    if (descriptor === undefined) return;
    this.#attempt(() => {
      this.#files.fsyncSync(descriptor);
      this.#descriptor = undefined;
      this.#files.closeSync(descriptor);
    });
    this.#state = "complete";
  }

  /** Moves the complete file to its place. @throws SafetensorsError when it cannot be moved: the stream is closed then */
  publish(): void {
    if (this.#state === "open") this.complete();
    if (this.#state === "closed") {
      throw new ResourceClosed("SafetensorsStream.publish", this.path, "Create another stream.");
    }
    this.#attempt(() => this.#files.renameSync(this.#part, this.path));
    this.#state = "closed";
  }

  /** Removes what was written, unless it was published. Idempotent. */
  close(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    const descriptor = this.#descriptor;
    this.#descriptor = undefined;
    try {
      if (descriptor !== undefined) this.#files.closeSync(descriptor);
    } finally {
      this.#files.rmSync(this.#part, { force: true });
    }
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  get #part(): string {
    return `${this.path}.part`;
  }

  #put(bytes: Uint8Array): void {
    const descriptor = this.#descriptor;
    if (descriptor === undefined) return;
    this.#attempt(() => {
      // A copy: runtimes may refuse shared memory.
      const own = bytes.slice();
      for (let done = 0; done < own.length; ) done += this.#files.writeSync(descriptor, own, done, own.length - done);
    });
  }

  #attempt(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.close();
      throw new SafetensorsError(this.#part, "a file that can be written", failureCode(error), "");
    }
  }
}
