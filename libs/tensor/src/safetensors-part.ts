import type { ByteSource } from "./byte-source.ts";
import { describe } from "./describe.ts";
import { ArgumentError, SafetensorsError } from "./errors.ts";
import { elementCount, formatShape } from "./shape.ts";

/** Indexes [start, end) of a dimension. */
export interface IndexRange {
  /** The first. */
  readonly start: number;
  /** One past the last. */
  readonly end: number;
}

/** A part of a stored tensor: some indexes of its first dimension, and, of a matrix, of its second; all by default. */
export interface TensorPart {
  /** Indexes of the first dimension. Default: all. */
  readonly rows?: IndexRange | undefined;
  /** Indexes of the second dimension. Default: all. */
  readonly columns?: IndexRange | undefined;
}

/** Equal runs of elements, each `pitch` elements after the one before. */
export interface Runs {
  /** First element of the first run. */
  readonly start: number;
  /** Elements of a run. */
  readonly length: number;
  readonly pitch: number;
  readonly count: number;
  /** Shape of what the runs make up. */
  readonly shape: readonly number[];
}

/** Where a part of a tensor of `shape` lies. @throws ArgumentError unless it is a part of it */
export function runsOf(operation: string, shape: readonly number[], part: TensorPart): Runs {
  const { rows, columns } = checked(operation, part);
  const [height, width] = shape;
  const pitch = elementCount(shape.slice(1));
  if (rows !== undefined) checkRange(operation, "part.rows", rows, height, shape);
  if (columns !== undefined)
    checkRange(operation, "part.columns", columns, shape.length === 2 ? width : undefined, shape);
  const { start, end } = rows ?? { start: 0, end: height ?? 1 };
  const run = columns ?? { start: 0, end: pitch };
  const length = run.end - run.start;
  const inner = columns === undefined ? shape.slice(1) : [length];
  const whole = shape.length === 0 ? [] : [end - start, ...inner];
  return { start: start * pitch + run.start, length, pitch, count: end - start, shape: whole };
}

function checked(operation: string, part: TensorPart): TensorPart {
  if (typeof part === "object" && part !== null) return part;
  throw new ArgumentError(operation, "part", "an object with rows and columns, or none", describe(part));
}

function checkRange(
  operation: string,
  argument: string,
  range: IndexRange,
  size: number | undefined,
  shape: readonly number[],
): void {
  if (size === undefined) {
    const has = argument === "part.rows" ? "no rows" : "no columns of their own";
    throw new ArgumentError(
      operation,
      argument,
      `left out: tensors of shape ${formatShape(shape)} have ${has}`,
      "given",
    );
  }
  const isRange = typeof range === "object" && range !== null;
  const { start, end } = isRange ? range : { start: Number.NaN, end: Number.NaN };
  if (Number.isInteger(start) && Number.isInteger(end) && start >= 0 && start <= end && end <= size) return;
  const received = isRange ? `${describe(start)} to ${describe(end)}` : describe(range);
  throw new ArgumentError(operation, argument, `within 0 to ${size}`, received);
}

/** A tensor of a file that is read. */
export interface StoredTensor {
  readonly source: ByteSource;
  /** What it is, for errors. */
  readonly what: string;
  /** Byte offset of the tensor's first element. */
  readonly start: number;
  readonly elementBytes: number;
}

/**
 * Reads runs into `target`, one after another, through `buffer`: as many by one read as it holds, with what lies
 * between them, or a long one piece by piece. @throws SafetensorsError when the file ends before, or cannot be read
 */
export function readRuns(stored: StoredTensor, runs: Runs, buffer: Uint8Array, target: Uint8Array): void {
  const { elementBytes } = stored;
  const isOneRun = runs.length === runs.pitch;
  const count = isOneRun ? 1 : runs.count;
  const bytes = runs.length * (isOneRun ? runs.count : 1) * elementBytes;
  const pitch = runs.pitch * elementBytes;
  const first = stored.start + runs.start * elementBytes;
  if (bytes === 0 || count === 0) return;
  const together = bytes > buffer.length ? 0 : Math.floor((buffer.length - bytes) / pitch) + 1;
  if (together === 0) {
    for (let run = 0; run < count; run++) {
      for (let done = 0; done < bytes; ) {
        const wanted = Math.min(buffer.length, bytes - done);
        fill(stored, buffer, wanted, first + run * pitch + done, target.length, run * bytes + done);
        target.set(wanted === buffer.length ? buffer : buffer.subarray(0, wanted), run * bytes + done);
        done += wanted;
      }
    }
    return;
  }
  for (let run = 0; run < count; run += together) {
    const some = Math.min(together, count - run);
    fill(stored, buffer, (some - 1) * pitch + bytes, first + run * pitch, target.length, run * bytes);
    for (let index = 0; index < some; index++) {
      target.set(buffer.subarray(index * pitch, index * pitch + bytes), (run + index) * bytes);
    }
  }
}

/** Reads exactly `length` bytes at `position` into the buffer. `done` of `total` bytes were read before. */
function fill(
  { source, what }: StoredTensor,
  buffer: Uint8Array,
  length: number,
  position: number,
  total: number,
  done: number,
): void {
  for (let at = 0; at < length; ) {
    const got = source.read(what, buffer, at, length - at, position + at);
    if (got === 0) {
      throw new SafetensorsError(source.name, `${total} bytes of ${what}`, `only ${done} before the file's end`);
    }
    at += got;
  }
}
